"""Modules for anybody's torch model that store and multiply only their nonzeros.

Read ``sparse_linear`` first, then ``to_sparse`` (a trained model, layer by layer) and ``file``; ``support`` and
``largest_gradients`` are the kernels. What moves the supports while they train is in ``sparelu.train``.
"""

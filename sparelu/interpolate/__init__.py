"""Which is the sparsest network through these points?

Read ``univariate`` and ``piecewise`` for one input, which stand on ``curves``; ``few_weights`` and ``reweighted`` for
several, which stand on ``points``.
"""

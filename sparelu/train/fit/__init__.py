"""Sparse training as the verb ``fit``: what a table needs around a training method.

Read ``training`` first (the loop of epochs), then ``with_sparsifier`` and ``sparsifier_methods`` (methods on the
engine), ``masked_training`` with ``magnitude`` and ``imp`` (on ``masked_mlp``); ``models``, ``batches``, ``losses``,
``init`` serve both.
"""

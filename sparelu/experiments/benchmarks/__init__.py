"""Benchmarks as declarations.

Read ``benchmark`` first (one question with its grid), then ``run``, which measures it, and ``figures``, which draw it.
"""

"""Benchmarks as declarations: ``benchmark`` is one question with its grid, ``run`` measures it, ``figures`` draws
it.
"""

"""Interpolants of one input: piecewise linear functions with few knots.

Read ``second_differences`` first (what a knot is), then ``interpolant`` (the sparsest one, by ``lp_program``,
``critical_exponent``), and for noisy points ``trend_filter``, ``free_knots`` on ``hat_basis``.
"""

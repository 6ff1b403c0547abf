"""Alternating iterative hard thresholding, as published, in memory linear in the nonzeros.

Read ``fitter`` first, then ``scalar_step`` (one output) and ``vector_step`` (several), on ``gated_matrix`` and
``countsketch``. ``fixed_gates`` is the published experiment with known activations.
"""

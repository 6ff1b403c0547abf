"""The sparse network that made the data, with a proof on rows kept apart.

Read ``fitter`` and ``search`` first, then ``relu_model``, ``warm_start``, ``least_squares``, ``backward``, ``forward``
and ``orient``, and ``certificate`` for what is claimed. ``tolerances`` holds the thresholds. ``two_layers`` does it for
two hidden layers.
"""

"""The sparse network that made the data, with a proof on rows kept apart.

Read ``fitter`` and ``search`` first, then ``warm_start``, ``forward``, ``least_squares`` and ``orientation``, and
``certificate`` for what is claimed. ``outputs_search`` does it for several outputs, ``two_layers`` for two hidden
layers.
"""

"""The sparse network that made the data, with a proof on rows kept apart.

Read ``fitter`` and ``search`` first, then ``model`` (what is fitted), ``warm_start`` (where it begins), ``steps`` (what
is dropped, added and oriented), and ``certificate`` for what is claimed. ``two_layers`` does it for two hidden layers.
"""

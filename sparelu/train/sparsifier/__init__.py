"""The engine for anybody's torch model in anybody's loop.

Read ``sparsifier`` first (the wrapped optimiser), then ``update_schedules`` (when, how many), ``scores`` (which),
``layer_densities`` (where), ``mask_enforcement`` (zeros stay zeros) and ``prunable`` (which parameters take part).
"""

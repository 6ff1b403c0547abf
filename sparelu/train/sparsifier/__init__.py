"""The engine for anybody's torch model in anybody's loop.

Read ``sparsifier`` first (every step of an optimiser, hooked by ``optimizer_hooks``) and ``rule`` (what makes a
method), then ``update_schedules`` (when, how many), ``scores`` (which), ``layer_densities`` (where), ``selection`` and
``prunable`` (of what), ``mask_enforcement`` (zeros stay zeros), ``sparse_init`` and ``summary``.
"""

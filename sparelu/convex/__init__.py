"""Which network is optimal, and how far is this one from it?

Read ``relu`` (the method ``convex``), then ``program``, ``newton`` and ``cones``; ``gated`` is the same without cones.
``optimal`` certifies networks from anywhere, by the bounds of ``dual_bound``. ``patterns`` and ``arrangement`` draw and
enumerate activation patterns.
"""

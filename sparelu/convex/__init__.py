"""Which network is optimal, and how far is this one from it?

Read ``relu`` (the method ``convex``) and ``gated`` (the same without cones), then ``fit`` and ``stage``, which they
share; ``solver`` holds the programs and Newton's method on them. ``optimal`` certifies networks from anywhere, by the
bounds of ``dual_bound``. ``patterns``, ``arrangement`` and ``directions`` draw, enumerate and price patterns.
"""

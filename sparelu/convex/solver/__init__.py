"""The convex programs and how they are solved, to a proved gap.

Read ``program`` first, then ``loss``, ``penalties`` and ``cones``, which it is made of; ``newton`` solves it, by the
linear systems of ``newton_system``.
"""

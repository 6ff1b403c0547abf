"""What the search does between two refits: drop, add, orient.

Read ``backward`` and ``forward`` first; ``forward_splits`` and ``rare_activations`` add what scores do not find.
``orient`` reads the sign of each hinge off the affine part, by ``orientation``, which ``lattice`` serves.
"""

"""What may be claimed of this network?

Each file without a leading helper is one certifier: ``regions``, ``pruned``, ``generalise``, ``recovered``, ``kernel``.
``lines``, ``plane`` and ``pairs`` compute what ``regions`` claims, ``complexity`` what ``generalise`` does.
"""

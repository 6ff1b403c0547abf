"""What masks and tickets are like: the studies of the founding papers, no methods of ``fit``.

``mask_topology`` (graphs of masks) with ``spectra`` and ``pags``; ``teacher_student`` (masks that are given) with
``tensor_init``; ``convnets`` are the small networks of both.
"""

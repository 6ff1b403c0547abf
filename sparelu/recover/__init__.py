"""Which sparse network made these data?

Each method is a folder that begins with its ``fitter``: ``exact`` (which supports and weights, to rounding), ``aiht``
(iterative hard thresholding at large scale) and ``pursuit`` (neurons one after another) from data, and ``queries`` from
the answers of a function.
"""

"""The model of exact recovery, hinges and an affine part, and its least squares fit on a support.

Read ``relu_model`` first, then ``hinges`` (rows, residuals, duplicates) and ``least_squares`` (refits and their
statistics), on the ``normal_equations``; ``tolerances`` holds the thresholds of all.
"""

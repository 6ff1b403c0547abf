"""Exact recovery of two hidden layers and one output.

Read ``fit`` and ``search`` first, then ``warm_start``, ``hinges``, ``least_squares``, ``backward``, ``exchange`` and
``rebuild``; ``equality`` tells whether two networks are one function.
"""

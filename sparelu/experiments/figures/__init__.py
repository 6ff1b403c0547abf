"""Figures of sweeps for papers, by matplotlib.

Read ``rows`` first (how rows are picked, grouped and averaged), then ``curves`` and ``heatmap``.
"""

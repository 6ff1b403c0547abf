"""Figures of sweeps for papers, by matplotlib: ``curves`` and ``heatmap``, from the flat ``rows`` of a table."""

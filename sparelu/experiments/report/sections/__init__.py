"""The sections of the report of a run, one a file, in the order of their ``order``.

A file here declares a :class:`~sparelu.experiments.report.section.Section` and nothing has to be listed.
"""

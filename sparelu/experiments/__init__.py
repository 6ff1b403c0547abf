"""Measuring, sweeping and reporting: written against the three verbs, never against a method.

Read ``trials`` first (one fit and its folder), then ``evaluate`` (how a network is judged) and ``write_run``;
``sweeps`` and ``tune`` make many of them, ``benchmarks``, ``figures`` and ``report`` show what came of them.
"""

"""Many trials, on processes or a cluster, in one table that is gone on with.

``grid`` reads them from TOML and ``sweep`` runs them; for ``tune``, ``search_space`` names the settings and their
ranges and ``optuna_search`` proposes the next.
"""

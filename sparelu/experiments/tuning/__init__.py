"""Searches of ``tune``: ``search_space`` names the settings and their ranges, ``optuna_search`` proposes them."""

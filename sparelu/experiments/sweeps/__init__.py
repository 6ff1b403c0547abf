"""Many trials: ``grid`` reads them from TOML, ``sweep`` runs them on processes or a cluster and keeps the table."""

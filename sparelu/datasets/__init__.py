"""Data by name or from files."""

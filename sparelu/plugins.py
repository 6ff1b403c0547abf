"""Packages of somebody else that add methods: how they are found, before any of them is imported."""

from importlib.metadata import EntryPoint, entry_points

GROUP = "sparelu.methods"
"""The group of entry points. Each names a class, or a module whose methods are taken."""


def plugins() -> list[EntryPoint]:
    """Return the entry points of all installed packages that add methods, in the order of what they name."""
    return sorted(entry_points(group=GROUP), key=lambda plugin: (plugin.value, plugin.name))

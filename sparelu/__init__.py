"""Sparse ReLU networks: recover, interpolate, train, compress, certify.

The public names are in ``__init__.pyi``. The verbs ``compress`` and ``certify`` are in :mod:`sparelu.run`, since the
folders of their methods have these names here.
"""

from typing import Any

import lazy_loader

_public, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> Any:
    """Import a public name when it is asked for."""
    if name == "__version__":
        from importlib.metadata import version

        return version("sparelu")
    return _public(name)

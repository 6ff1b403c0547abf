"""Sparse ReLU networks: recover, interpolate, train, compress, certify.

The public names are in ``__init__.pyi``. The verbs ``compress`` and ``certify`` are in :mod:`sparelu.run`, since the
folders of their methods have these names here.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

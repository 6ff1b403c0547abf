"""What the certifiers share: the check of the data's width, and the rows that they look at."""

import numpy as np

from sparelu.data import Data
from sparelu.networks.network import Network


def width_reason(network: Network, data: Data | None, needed: str = "") -> str | None:
    """Say why the data do not fit the network: another number of inputs, or no data where they are ``needed`` for
    that.
    """
    if data is None:
        return f"it needs the data: {needed}" if needed else None
    if data.inputs != network.inputs:
        return f"the network reads {network.inputs} inputs, the data have {data.inputs}: give the data it was made for"
    return None


def some_rows(data: Data, count: int, rng: np.random.Generator) -> np.ndarray:
    """Draw at most ``count`` rows (count, d) in float64, drawn without replacement."""
    chosen = np.sort(rng.choice(data.n, min(count, data.n), replace=False))
    return np.asarray(data.x[chosen], dtype=np.float64)

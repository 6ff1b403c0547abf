"""The clock and the memory gauge against allocations of known size."""

import time
from pathlib import Path

import numpy as np
import pytest

from sparelu.runtime.resources import Meter


def test_seconds_are_those_inside() -> None:
    meter = Meter()
    for _ in range(2):
        with meter.running():
            time.sleep(0.05)
        time.sleep(0.05)
    assert 0.09 < meter.seconds < 0.5


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak can be reset on Linux only")
def test_a_peak_is_seen_after_a_larger_one() -> None:
    large = np.ones(30_000_000)
    del large
    meter = Meter()
    small = np.ones(10_000_000)
    del small
    assert 70e6 < meter.peak_memory < 120e6
    assert Meter().peak_memory < 5e6

"""Which tests take long, as measured: ``make durations`` runs all and writes ``durations.tsv``.

A plugin of pytest. It adds up the processor seconds of each test function, all its parameters and child processes
included, and keeps those of at least ``LONG``. ``conftest`` marks them ``seconds``, and ``make test-fast`` leaves them
out; a test that is newer than the file runs.
"""

import resource
from collections import Counter
from collections.abc import Generator
from pathlib import Path

import pytest

TABLE = Path(__file__).with_name("durations.tsv")
LONG = 1.0
"""Processor seconds of a test function, all its parameters together, from which it is not in ``make test-fast``."""


def function_of(item_id: str) -> str:
    """Return the id of a test without its parameters."""
    return item_id.partition("[")[0]


def long_tests() -> dict[str, float]:
    """Return the measured processor seconds of the tests that take long, by id."""
    lines = (line.split("\t") for line in TABLE.read_text().splitlines())
    return {name: float(seconds) for seconds, name in lines}


def _processor_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


class Measure:
    """Adds up processor seconds while tests run on one process."""

    def __init__(self) -> None:
        self.spent: Counter[str] = Counter()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """Charge setup, call and teardown to the test."""
        start = _processor_seconds()
        done = yield
        self.spent[function_of(item.nodeid)] += _processor_seconds() - start
        return done

    def pytest_sessionfinish(self) -> None:
        """Write the tests that take long, and print what all and the others take."""
        rows = sorted((name, seconds) for name, seconds in self.spent.items() if seconds >= LONG)
        TABLE.write_text("".join(f"{seconds:.1f}\t{name}\n" for name, seconds in rows))
        everything, long = sum(self.spent.values()), sum(seconds for _, seconds in rows)
        print(f"\n{everything:.0f} processor seconds, of which {everything - long:.0f} in make test-fast")


def pytest_configure(config: pytest.Config) -> None:
    """Measure when loaded with ``-p tests.durations``."""
    config.pluginmanager.register(Measure(), "sparelu durations")

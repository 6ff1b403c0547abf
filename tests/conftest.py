"""Types and shapes are checked at every call while the tests run, on one thread for each worker.

The command line is left out: typer hands its functions a context of another class than it wants them to declare.
"""

import gc
import importlib
import os
import pkgutil
import sys

import pytest
from jaxtyping import install_import_hook
from threadpoolctl import threadpool_limits

import sparelu
from tests.durations import function_of, long_tests

# Two workers of two threads each take three times as long on two cores as two of one thread. The environment serves
# torch, which is not imported yet, and every process that a test starts; NumPy is here already, through a plugin.
os.environ |= {"OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"}
os.environ.pop("COLUMNS", None)  # workers have the width of a terminal here, and a console keeps what it is made with
threadpool_limits(1)
# Where byte code is not kept, each of the many processes compiles the project anew, and libraries below the hook too.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

CHECKED = [f"sparelu.{module.name}" for module in pkgutil.iter_modules(sparelu.__path__) if module.name != "cli"]
install_import_hook(CHECKED, "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that were measured to take long."""
    long = long_tests()
    for item in items:
        if function_of(item.nodeid) in long:
            item.add_marker("seconds")


def pytest_collection_finish() -> None:
    """Keep the garbage collector, which every fit calls, from looking at all modules each time.

    Its plugin imports Hypothesis at the end, where that would ask who holds the generators of modules that are frozen.
    """
    importlib.import_module("hypothesis")
    gc.collect()
    gc.freeze()

"""Types and shapes are checked while the tests run (see ``first_calls``), on one thread for each worker.

The command line is left out: typer hands its functions a context of another class than it wants them to declare.
"""

import gc
import os
import pkgutil
import sys

import hypothesis
import pytest
from jaxtyping import install_import_hook
from threadpoolctl import threadpool_limits

import sparelu
from tests import first_calls
from tests.durations import function_of, long_tests

# Two workers of two threads each take three times as long on two cores as two of one thread. The environment serves
# torch, which is not imported yet, and every process that a test starts; NumPy is here already, through a plugin.
os.environ |= {"OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"}
os.environ.pop("COLUMNS", None)  # workers have the width of a terminal here, and a console keeps what it is made with
threadpool_limits(1)
# Where byte code is not kept, each of the many processes compiles the project anew, and libraries below the hook too.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

hypothesis.settings.register_profile("the same", derandomize=True)  # the same examples in every run
hypothesis.settings.load_profile("the same")

first_calls.install()
CHECKED = [f"sparelu.{module.name}" for module in pkgutil.iter_modules(sparelu.__path__) if module.name != "cli"]
install_import_hook(CHECKED, "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))")


@pytest.fixture(autouse=True)
def types_are_checked_anew() -> None:
    """Forget which functions were checked before."""
    first_calls.CHECKED.clear()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that were measured to take long."""
    long = long_tests()
    for item in items:
        if function_of(item.nodeid) in long:
            item.add_marker("seconds")


def pytest_collection_finish() -> None:
    """Keep the garbage collector, which every fit calls, from looking at all modules each time."""
    gc.collect()
    gc.freeze()

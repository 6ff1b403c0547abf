"""Types and shapes are checked at every call while the tests run.

The command line is left out: typer hands its functions a context of another class than it wants them to declare.
"""

import pkgutil

from jaxtyping import install_import_hook

import sparelu

CHECKED = [f"sparelu.{module.name}" for module in pkgutil.iter_modules(sparelu.__path__) if module.name != "cli"]
install_import_hook(CHECKED, "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))")

"""What a named data set is: a function of declared parameters, and what it downloads."""

import functools
import inspect
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from sparelu.data import Data
from sparelu.settings import Rule, Setting, SettingError, declared_setting, nearest

F = TypeVar("F", bound=Callable[..., Any])

Seed = Annotated[int, Rule("decides all random numbers", low=0, high=2**32 - 3)]


@dataclass(frozen=True)
class Dataset:
    """A data set by name. ``downloads`` says what is fetched, in words, and ``size`` how many bytes that is.

    ``reads_files``: the data are not decided by its code and parameters alone.
    """

    name: str
    summary: str
    function: Callable[..., Data]
    downloads: str = ""
    size: int = 0
    reads_files: bool = False

    @property
    def parameters(self) -> tuple[Setting, ...]:
        """Return the declared parameters, in order."""
        return parameters_of(self.function)

    def load(self, seed: int, values: dict[str, Any]) -> Data:
        """Return the data for these parameters; texts, as a command line gives them, are read by the declaration.

        Raises :class:`~sparelu.method.SettingError` for an unknown parameter, naming the nearest, or a bad value.
        """
        known = {p.name: p for p in self.parameters}
        for key in values:
            if key not in known:
                raise SettingError(f"data set {self.name!r} has no parameter {key!r}; {_known(key, known)}")
        texts = {k for k, v in values.items() if isinstance(v, str) and known[k].kind is not str}
        read = {k: known[k].parse(v) if k in texts else v for k, v in values.items()}
        return self.function(**({"seed": seed} if "seed" in known else {}) | read)


def _known(key: str, known: dict[str, Setting]) -> str:
    return nearest(key, known) if known else "it takes none"


def parameters_of(function: Callable[..., Any]) -> tuple[Setting, ...]:
    """Return the parameters of a function whose annotations carry a :class:`~sparelu.method.Rule`."""
    hints = typing.get_type_hints(function, include_extras=True)
    found = []
    for name, p in inspect.signature(function).parameters.items():
        if typing.get_origin(hints[name]) is Annotated:
            hint, rule = typing.get_args(hints[name])[:2]
            found.append(declared_setting(name, hint, p.default, rule))
    return tuple(found)


def declared(function: F) -> F:
    """Check every declared argument against its rule before the call; one number serves for a list of one."""
    known = {p.name: p for p in parameters_of(function)}
    signature = inspect.signature(function)

    @functools.wraps(function)
    def checked(*args: Any, **kwargs: Any) -> Any:
        given = signature.bind(*args, **kwargs)
        for name, value in given.arguments.items():
            if name in known:
                given.arguments[name] = _checked(function.__name__, known[name], value)
        return function(*given.args, **given.kwargs)

    return typing.cast(F, checked)


def _checked(name: str, parameter: Setting, value: Any) -> Any:
    if parameter.kind is not tuple or value is None:
        return parameter.check(name, value)
    many = parameter.check(name, value if isinstance(value, (tuple, list)) else (value,))
    if any(v != int(v) for v in many):
        raise SettingError(f"{name}: {parameter.name} must be whole numbers, got {value!r}")
    return tuple(int(v) for v in many)

"""Types and shapes are checked at the first calls of each function in each test.

jaxtyping wraps a function in Python that binds its arguments at every call: checked always, half of the time of the
tests went there. What a function is given in a test seldom changes its type after some calls.
"""

import functools
import inspect
from collections import Counter
from types import CodeType
from typing import Any

import jaxtyping
from jaxtyping import _decorator

CALLS = 10
"""Calls of a function, or of all closures of the same code, that are checked in a test."""
CHECKED: Counter[CodeType] = Counter()

_always = _decorator.jaxtyped


def jaxtyped(fn: Any = None, *, typechecker: Any) -> Any:
    """Check a function at its first calls, and a class when it is made, as ``jaxtyping.jaxtyped`` does at all."""
    if fn is None:
        return functools.partial(jaxtyped, typechecker=typechecker)
    if not inspect.isfunction(fn):
        return _always(fn, typechecker=typechecker)
    if CHECKED[fn.__code__] >= CALLS:
        return fn
    checked, code = _always(fn, typechecker=typechecker), fn.__code__

    @functools.wraps(checked)
    def call(*given: Any, **named: Any) -> Any:
        __tracebackhide__ = True
        if CHECKED[code] >= CALLS:
            return fn(*given, **named)
        CHECKED[code] += 1
        return checked(*given, **named)

    return call


def install() -> None:
    """Let the import hook of jaxtyping check so."""
    jaxtyping.jaxtyped = _decorator.jaxtyped = jaxtyped

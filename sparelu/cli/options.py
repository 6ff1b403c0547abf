"""Flags made of declarations: a command takes whole option objects, and is given those that its flags describe."""

import inspect
import re
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import Field, dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from sparelu.cli import flags
from sparelu.cli.declarations import declarations
from sparelu.cli.session import plain_errors
from sparelu.experiments.options import BudgetChoice, Flag, Plan, TrialOptions, check_select, option
from sparelu.settings import SettingError, describe_unknown_data

MANY = 1024
"""Processes, and threads of each, that one machine can be meant to run."""
FOUR = ("nonzeros", "density", "sparsity", "compression")
"""The ways to give one budget; a command that chooses among several takes none of them."""


@dataclass(frozen=True)
class RunOptions:
    """Where a run is written, and what is printed of it."""

    out: Path | None = option(None, "Run folder (default: below runs/, named by data, method and content).")
    resume: bool = option(False, "Go on with an interrupted run.", name="--resume")
    json: bool = option(False, "Print one JSON object instead of tables.", name="--json")


@dataclass(frozen=True)
class FitOptions(RunOptions):
    """How a fit is run; none of it decides the result."""

    seconds: float | None = option(None, "Stop the fit after so many seconds.")
    save_every: float = option(10.0, "Seconds between two saves of the state.")
    path: bool = option(False, "Fit several budgets, choose one by cross-validation, draw the curve.", name="--path")
    rank_timeout: float = option(300.0, "Seconds that ranks wait for one another under torchrun.")


@dataclass(frozen=True)
class TuneOptions(RunOptions):
    """How a search is run; none of it decides the result."""

    workers: int = option(1, "Processes; they change the time, not the result.")


def take_options(command: Callable[..., None], leave: Sequence[str] = ()) -> Callable[..., None]:
    """Give ``command`` a flag for each field of the option objects that it takes, but for those to ``leave`` out.

    Returns what typer registers: called with what the flags say, it builds the objects by keyword and calls
    ``command``; what is wrong with them is one message.
    """
    own = inspect.signature(command, eval_str=True).parameters
    objects: dict[str, Any] = {name: p.annotation for name, p in own.items() if is_dataclass(p.annotation)}
    shown = {
        name: [f for f in fields(kind) if f.name not in leave and "flag" in f.metadata]
        for name, kind in objects.items()
    }
    hints = {name: typing.get_type_hints(kind) for name, kind in objects.items()}

    def run(**given: Any) -> None:
        with plain_errors():
            made = {
                name: kind(**{f.name: _read(f.name, hints[name][f.name], given.pop(f.name)) for f in shown[name]})
                for name, kind in objects.items()
            }
            command(**given, **made)

    parameters = [p.replace(kind=p.KEYWORD_ONLY) for name, p in own.items() if name not in objects]
    for name in objects:
        parameters += [_parameter(f, hints[name][f.name]) for f in shown[name]]
    run.__name__, run.__doc__ = command.__name__, command.__doc__
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {}
    return run


def _parameter(f: "Field[Any]", hint: Any) -> inspect.Parameter:
    """Return the parameter of a field as typer reads it: lists are told as texts, mappings as repeated texts."""
    flag: Flag = f.metadata["flag"]
    kind, default = hint, flag.default
    if typing.get_origin(hint) is tuple:
        kind, default = str | None, ",".join(map(str, flag.default)) or None
    elif typing.get_origin(hint) is Mapping:
        kind, default = list[str] | None, None
    if default is ...:
        return inspect.Parameter(
            f.name, inspect.Parameter.KEYWORD_ONLY, annotation=Annotated[kind, typer.Argument(help=escape(flag.help))]
        )
    info = typer.Option(*([flag.name] if flag.name else []), help=escape(flag.help))
    return inspect.Parameter(f.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, info])


def _read(name: str, hint: Any, told: Any) -> Any:
    """Return the value of a field from what its flag said. Raises :class:`SettingError` for a list that is none."""
    if typing.get_origin(hint) is tuple:
        if told is None:
            return ()
        return flags.texts(told) if hint == tuple[str, ...] else flags.whole_numbers(told, f"--{name}")
    return flags.ranges(told or ()) if typing.get_origin(hint) is Mapping else told


def read_trial(told: TrialOptions, extra: Sequence[str]) -> TrialOptions:
    """Return what is asked, with the parameters of the data and the settings of a named method.

    ``extra`` are the flags that are no options: settings. Whatever can be known to be wrong before the data are read
    and torch is imported is said here. Raises :class:`SettingError`, or ``ValueError`` for a budget that is none.
    """
    source, parameters = flags.data_source(told.data)
    _check_source(source, parameters)
    trial = replace(told, data=source, parameters=parameters)
    trial.budget()
    if trial.device not in ("auto", "cpu") and not re.fullmatch(r"cuda(:\d+)?", trial.device):
        raise SettingError(f"--device must be auto, cpu, cuda or cuda:NUMBER, got {trial.device!r}")
    if not 0 <= trial.test_fraction < 1:
        raise SettingError(f"--test-fraction must be at least 0 and below 1, got {trial.test_fraction:g}")
    if trial.seed < 0:
        raise SettingError(f"--seed must be at least 0, got {trial.seed}")
    if trial.method == "auto":
        flags.check_known(extra)
        return trial
    return replace(trial, settings=flags.method_settings(extra, flags.named_method(trial.method)))


def _check_source(source: str, parameters: Mapping[str, str]) -> None:
    """Raise :class:`SettingError` for data that are neither known nor a file, and for wrong parameters."""
    there = declarations()
    if source in there.datasets:
        there.datasets[source].check(parameters)
    elif not Path(source).exists():
        raise SettingError(describe_unknown_data(source, there.datasets, there.files))


def check_fit(options: FitOptions, choice: BudgetChoice) -> None:
    """Raise :class:`SettingError` for times and folds out of range; NaN is in none."""
    check_select(choice.select)
    for name, value in (("--seconds", options.seconds), ("--rank-timeout", options.rank_timeout)):
        if value is not None and not value > 0:
            raise SettingError(f"{name} must be above 0, got {value:g}")
    if not options.save_every >= 0:
        raise SettingError(f"--save-every must be at least 0, got {options.save_every:g}")
    if options.path:
        check_choice(choice)


def check_choice(choice: BudgetChoice) -> None:
    """Raise :class:`SettingError` for budgets, folds or a rule that cannot be."""
    check_select(choice.select)
    if choice.folds < 2:
        raise SettingError(f"--folds must be at least 2, got {choice.folds}")
    if choice.budgets and min(choice.budgets) < 1:
        raise SettingError(f"--budgets must be at least 1, got {min(choice.budgets)}")


def check_plan(plan: Plan, options: TuneOptions, trial: TrialOptions, extra: Sequence[str]) -> None:
    """Raise :class:`SettingError` for a search that cannot be, as far as that is known before the data are read."""
    if not 1 <= options.workers <= MANY:
        raise SettingError(f"--workers must be at least 1 and at most {MANY}, got {options.workers}")
    if trial.method == "auto" and extra:
        raise SettingError(f"{extra[0]}: name the method with --method to give its settings")
    check_choice(plan)

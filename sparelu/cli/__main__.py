"""The command ``sparelu``. Heavy imports wait until a command runs, so that --help is instant."""

import io
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Argument, Option
from typer.core import TyperGroup

from sparelu.cli.declarations import declarations
from sparelu.cli.flags import check_format, check_name, check_run, method_settings, whole_numbers
from sparelu.cli.options import FOUR, FitOptions, TuneOptions, check_fit, check_plan, read_trial, take_options
from sparelu.cli.session import OK, USAGE, fail
from sparelu.experiments.options import BudgetChoice, Plan, TrialOptions
from sparelu.settings import SettingError

UsageError: Any = typer.BadParameter.__base__
"""What the library of the command line raises for flags and arguments that it cannot read."""


class OneLine(TyperGroup):
    """All commands; wrong usage is said in one line, as all other errors are."""

    def main(self, *given: Any, **named: Any) -> Any:
        """Run a command; leave with its exit code."""
        alone = named.pop("standalone_mode", True)
        try:
            code = super().main(*given, **{**named, "standalone_mode": False})
        except UsageError as error:
            if type(error).__name__ == "NoArgsIsHelpError":
                error.show()
                raise SystemExit(error.exit_code) from None
            words, asked = " ".join(error.format_message().split()).rstrip("."), error.ctx or self
            fail(f"{words}; see {getattr(asked, 'command_path', 'sparelu')} --help", USAGE)
        if alone:
            sys.exit(code if isinstance(code, int) else OK)
        return code


app = typer.Typer(
    cls=OneLine,
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="Sparse ReLU networks: find, train, compress, certify.\n\n"
    "Exit codes: 0 done, 1 failure, 2 bad input, 3 refused by the method, 130 interrupted (repeat with --resume).",
)
EXTRA = {"allow_extra_args": True, "ignore_unknown_options": True}

Json = Annotated[bool, Option("--json", help="Print one JSON object instead of tables.")]
Force = Annotated[bool, Option("--force", help="Write over files that were not written for this run.")]
Run = Annotated[Path, Argument(help="A run folder written by fit.")]


def command(leave: Sequence[str] = (), **how: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make a function a command, with flags for the fields of the options that it takes, but for those to ``leave``."""
    return lambda function: app.command(**how)(take_options(function, leave))


def _methods_from(start: str) -> list[str]:
    """Return the methods whose names begin so, for the completion of a shell."""
    return [name for name in declarations().methods if name.startswith(start)]


@app.callback()
def common(
    version: Annotated[
        bool, Option("--version", is_eager=True, callback=lambda wanted: _print_version() if wanted else None)
    ] = False,
) -> None:
    """Sparse ReLU networks: find, train, compress, certify."""


def _print_version() -> None:
    from sparelu import __version__

    typer.echo(f"sparelu {__version__}")
    raise typer.Exit


@command(context_settings=EXTRA)
def fit(context: typer.Context, asked: TrialOptions, choice: BudgetChoice, options: FitOptions) -> None:
    """Fit a sparse network to DATA within a budget, and write a run folder with the model and report.html.

    Settings of the method are flags too: see [bold]sparelu methods NAME[/]. Started as
    [bold]torchrun --nproc-per-node K -m sparelu fit ...[/], K processes share the rows.
    """
    trial = read_trial(asked, context.args)
    check_fit(options, choice)
    from sparelu.cli.fit import fit_command

    fit_command(trial, context.args, choice, options)


@command(context_settings=EXTRA, leave=FOUR)
def tune(context: typer.Context, asked: TrialOptions, plan: Plan, options: TuneOptions) -> None:
    """Choose the budget and the settings of a method by cross-validation, then fit all training rows.

    Settings that stay fixed are flags, as for fit.
    """
    trial = read_trial(asked, context.args)
    check_plan(plan, options, trial, context.args)
    from sparelu.cli.tune import tune_command

    tune_command(trial, plan, options)


@command()
def predict(
    run: Run,
    data: Annotated[str, Argument(help="Rows to predict, with the columns the model was trained on (any order).")],
    out: Annotated[Path | None, Option(help="CSV file to write (default: print).")] = None,
    force: Force = False,
    proba: Annotated[
        bool, Option("--proba", help="Of classes: the probability of each, in a column of its own.")
    ] = False,
) -> None:
    """Predict rows of raw inputs with a stored model, in original labels or units."""
    check_run(run)
    from sparelu.cli.predict_show_report import predict_command

    predict_command(run, data, out, force, proba)


@command()
def show(
    run: Run, everything: Annotated[bool, Option("--all", help="List every neuron.")] = False, json: Json = False
) -> None:
    """Print a network as tables: layers, sizes, and which inputs feed which neurons."""
    check_run(run)
    from sparelu.cli.predict_show_report import show_command

    show_command(run, everything, json)


@command()
def report(
    run: Annotated[Path, Argument(help="A run folder written by fit, or a table of rows written by sweep.")],
    beside: Annotated[
        list[Path] | None, Option(help="Another run of one input, drawn in the same chart; may be repeated.")
    ] = None,
    force: Annotated[bool, Option("--force", help="Write over a board.html that is no report of ours.")] = False,
) -> None:
    """Write report.html of a run anew, or figures and a board of a sweep."""
    from sparelu.cli.predict_show_report import report_command

    report_command(run, beside or (), force)


@command()
def methods(
    name: Annotated[str | None, Argument(help="A method: list its settings.", autocompletion=_methods_from)] = None,
    json: Json = False,
) -> None:
    """List the methods, or the settings of one."""
    from sparelu.cli.list_methods import methods_table

    _print_table(*methods_table(name), json)


@command()
def datasets(json: Json = False) -> None:
    """List the data sets that are known by name, with their parameters."""
    from sparelu.cli.list_methods import datasets_table

    _print_table(*datasets_table(), json)


@command()
def sweep(
    grid: Annotated[Path, Argument(help="A TOML file of trials (see docs/sweeps.md).")],
    out: Annotated[Path | None, Option(help="Table of rows, JSON lines (default: runs/GRID.jsonl).")] = None,
    engine: Annotated[str, Option(help="joblib (this machine) or dask (a cluster).")] = "joblib",
    workers: Annotated[int, Option(help="Processes of the joblib engine.")] = 2,
    threads: Annotated[int, Option(help="Threads of each process.")] = 1,
    scheduler: Annotated[str | None, Option(help="Address of a Dask scheduler.")] = None,
    json: Json = False,
) -> None:
    """Run a grid of trials (methods, data, budgets, seeds) that the table does not hold yet."""
    from sparelu.cli.sweep import sweep_command

    sweep_command(grid, out, engine, workers, threads, scheduler, json)


@command(context_settings=EXTRA)
def compress(
    context: typer.Context,
    run: Run,
    neurons: Annotated[
        str | None, Option(help="Neurons to keep, of deeper networks such as 20,10. One of these two.")
    ] = None,
    tolerance: Annotated[float | None, Option(help="Training score that may be lost.")] = None,
    method: Annotated[str, Option(help="A compressor (see: sparelu methods).")] = "population",
    out: Annotated[Path | None, Option(help="Run folder of the smaller network (default: RUN-M-neurons).")] = None,
) -> None:
    """Say the same with fewer neurons; draw the curve of error against neurons, and print what is certain of it."""
    check_run(run)
    settings = method_settings(context.args, declarations().method(method, "compressor"))
    wanted = None if neurons is None else whole_numbers(neurons, "--neurons")
    if (wanted is None) == (tolerance is None):
        raise SettingError("give one of --neurons and --tolerance")
    if tolerance is not None and not tolerance >= 0:
        raise SettingError(f"--tolerance must be at least 0, got {tolerance:g}")
    from sparelu.cli.compress import compress_command

    compress_command(run, neurons, wanted, tolerance, method, settings, out)


@command(context_settings=EXTRA)
def certify(
    context: typer.Context,
    run: Run,
    method: Annotated[str | None, Option(help="A certifier (default: all that apply).")] = None,
    json: Json = False,
) -> None:
    """Print what is proved of a network: claim, value, and each assumption as checked, violated or taken on trust."""
    check_run(run)
    if method is not None:
        method_settings(context.args, declarations().method(method, "certifier"))
    from sparelu.cli.certify_export import certify_command

    certify_command(run, method, context.args, json)


@command()
def recover(
    oracle: Annotated[
        str,
        Argument(
            help="What is asked: a command that reads rows of numbers separated by commas and prints a line of numbers "
            "for each, LIBRARY.so:FUNCTION, MODEL.onnx, or a run folder."
        ),
    ],
    hidden: Annotated[str, Option(help="The largest width of the hidden layer.")] = "100",
    inputs: Annotated[int | None, Option(help="Numbers in a row, where the oracle does not say.")] = None,
    outputs: Annotated[int, Option(help="Numbers in an answer, where the oracle does not say.")] = 1,
    centre: Annotated[float, Option(help="Where the inputs lie.")] = 0.0,
    spread: Annotated[float, Option(help="How far they lie from there.")] = 1.0,
    precision: Annotated[float, Option(help="Relative error above which a neuron is read again.")] = 1e-8,
    limit: Annotated[int | None, Option(help="Rows that may be asked.")] = None,
    seed: Annotated[int, Option(help="Decides everything random.")] = 0,
    out: Annotated[Path | None, Option(help="Run folder (default: below runs/). Keeps every answer.")] = None,
    resume: Annotated[bool, Option("--resume", help="Go on with a run that stopped; nothing is asked twice.")] = False,
    json: Json = False,
) -> None:
    """Recover the one-hidden-layer ReLU network behind a function that can be asked, and say what is proved of it."""
    widths = whole_numbers(hidden, "--hidden")
    from sparelu.cli.recover import recover_command

    recover_command(oracle, inputs, outputs, widths, centre, spread, precision, seed, limit, out, resume, as_json=json)


@command()
def export(
    run: Run,
    kind: Annotated[str, Option("--format", help="onnx, onnx-sparse, c, numpy, python, sql or spreadsheet.")] = "onnx",
    out: Annotated[Path | None, Option(help="Folder to write into (default: RUN/export).")] = None,
    name: Annotated[str, Option(help="Name of the files and, in C, of the function.")] = "network",
    force: Force = False,
) -> None:
    """Write a network as ONNX, C without dependencies, NumPy arrays, or a formula: Python, SQL, a spreadsheet."""
    check_run(run)
    check_format(kind)
    check_name(name)
    from sparelu.cli.certify_export import export_command

    export_command(run, kind, out, name, force)


def _print_table(table: Any, rows: list[dict[str, Any]], json: bool) -> None:
    from sparelu.cli.session import console
    from sparelu.json_form import dumps

    if json:
        typer.echo(dumps(rows, indent=1))
    else:
        console.print(table)


def main() -> None:
    """Run the command line."""
    from sparelu.cli.session import harmless

    warnings.formatwarning = lambda message, *_, **__: f"warning: {harmless(str(message))}\n"
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a name may hold what the terminal cannot show
    app(prog_name="sparelu")


if __name__ == "__main__":
    main()

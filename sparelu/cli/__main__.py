"""The command ``sparelu``. Heavy imports wait until a command runs, so that --help is instant."""

import json as json_text
from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Argument, Option

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="Sparse ReLU networks: find, train, compress, certify.\n\n"
    "Exit codes: 0 done, 1 failure, 2 bad input, 3 refused by the method, 130 interrupted (repeat with --resume).",
)
EXTRA = {"allow_extra_args": True, "ignore_unknown_options": True}

Json = Annotated[bool, Option("--json", help="Print one JSON object instead of tables.")]
Folds = Annotated[int, Option(help="Folds of the cross-validation.")]
Select = Annotated[
    str,
    Option(help="one-se: the smallest budget whose mean loss is within a standard error of the least; or best."),
]
Channels = Annotated[
    str | None, Option(help="Of images: convolutions before the hidden layers, such as 16,32 (3 x 3, stride 2).")
]
Run = Annotated[Path, Argument(help="A run folder written by fit.")]


def _methods_from(start: str) -> list[str]:
    """Return the methods whose names begin so, for the completion of a shell."""
    from sparelu.cli.declarations import declarations

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


@app.command(context_settings=EXTRA)
def fit(
    context: typer.Context,
    data: Annotated[
        str,
        Argument(
            help="A CSV, Parquet, NPY or NPZ file, or a name (see: sparelu datasets); "
            "parameters as name:key=value,key=value."
        ),
    ],
    target: Annotated[str | None, Option(help="The column to predict, by name or number.")] = None,
    task: Annotated[
        str | None, Option(help="regression or classification; found from the target if not given.")
    ] = None,
    method: Annotated[str, Option(help="A method (see: sparelu methods), or auto.")] = "auto",
    hidden: Annotated[str, Option(help="Hidden widths, such as 100 or 300,100.")] = "100",
    channels: Channels = None,
    nonzeros: Annotated[int | None, Option(help="Weights allowed. One of these four.")] = None,
    density: Annotated[float | None, Option(help="Share of the weights allowed.")] = None,
    sparsity: Annotated[float | None, Option(help="Share of the weights that must be zero.")] = None,
    compression: Annotated[float | None, Option(help="All weights divided by those allowed.")] = None,
    seed: Annotated[int, Option(help="Decides everything random.")] = 0,
    test_fraction: Annotated[float, Option(help="Rows kept for testing, where the source keeps none.")] = 0.2,
    standardise: Annotated[bool | None, Option(help="Scale inputs (default: files yes, named data no).")] = None,
    device: Annotated[str, Option(help="auto, cpu or cuda.")] = "auto",
    seconds: Annotated[float | None, Option(help="Stop the fit after so many seconds.")] = None,
    save_every: Annotated[float, Option(help="Seconds between two saves of the state.")] = 10.0,
    out: Annotated[Path | None, Option(help="Run folder (default: runs/DATA-METHOD-KEY).")] = None,
    resume: Annotated[bool, Option("--resume", help="Go on with an interrupted run.")] = False,
    path: Annotated[
        bool, Option("--path", help="Fit several budgets, choose one by cross-validation, draw the curve.")
    ] = False,
    budgets: Annotated[str | None, Option(help="Budgets of --path, such as 50,100,200.")] = None,
    folds: Folds = 5,
    select: Select = "one-se",
    rank_timeout: Annotated[float, Option(help="Seconds that ranks wait for one another under torchrun.")] = 300.0,
    json: Json = False,
) -> None:
    """Fit a sparse network to DATA within a budget, and write a run folder with the model and report.html.

    Settings of the method are flags too: see [bold]sparelu methods NAME[/]. Started as
    [bold]torchrun --nproc-per-node K -m sparelu fit ...[/], K processes share the rows.
    """
    from sparelu.cli.fit import Wishes, fit_command
    from sparelu.cli.session import plain_errors

    with plain_errors():
        wishes = Wishes(
            data,
            target,
            task,
            method,
            hidden,
            nonzeros,
            density,
            sparsity,
            compression,
            seed,
            test_fraction,
            standardise,
            device,
            seconds,
            save_every,
            tuple(context.args),
            out,
            resume,
            path,
            budgets,
            folds,
            select,
            channels,
        )
        fit_command(wishes, json, rank_timeout)


@app.command(context_settings=EXTRA)
def tune(
    context: typer.Context,
    data: Annotated[str, Argument(help="As for fit.")],
    target: Annotated[str | None, Option(help="The column to predict, by name or number.")] = None,
    task: Annotated[str | None, Option(help="regression or classification.")] = None,
    method: Annotated[str, Option(help="A method (see: sparelu methods), or auto.")] = "auto",
    hidden: Annotated[str, Option(help="Hidden widths, such as 100 or 300,100.")] = "100",
    channels: Channels = None,
    budgets: Annotated[str | None, Option(help="Numbers of nonzeros to choose from, such as 50,100,200.")] = None,
    folds: Folds = 5,
    trials: Annotated[int, Option(help="Settings tried for each budget; above 1 wants sparelu[search].")] = 1,
    search: Annotated[
        list[str] | None,
        Option(help="A setting to search, NAME=LOW:HIGH, NAME=log:LOW:HIGH, NAME=A,B or NAME; may be repeated."),
    ] = None,
    select: Select = "one-se",
    pruner: Annotated[str, Option(help="Stops poor settings after some folds: median, hyperband or none.")] = "median",
    workers: Annotated[int, Option(help="Processes; they change the time, not the result.")] = 1,
    seed: Annotated[int, Option(help="Decides everything random.")] = 0,
    test_fraction: Annotated[float, Option(help="Rows kept for testing, where the source keeps none.")] = 0.2,
    standardise: Annotated[bool | None, Option(help="Scale inputs (default: files yes, named data no).")] = None,
    device: Annotated[str, Option(help="auto, cpu or cuda.")] = "auto",
    out: Annotated[Path | None, Option(help="Run folder (default: runs/DATA-METHOD-tune-KEY).")] = None,
    resume: Annotated[bool, Option("--resume", help="Go on with an interrupted search.")] = False,
    json: Json = False,
) -> None:
    """Choose the budget and the settings of a method by cross-validation, then fit all training rows.

    Settings that stay fixed are flags, as for fit.
    """
    from sparelu.cli.session import plain_errors
    from sparelu.cli.tune import Given, Search, tune_command

    with plain_errors():
        given = Given(
            *(data, target, task, method, hidden, channels, seed, test_fraction, standardise, device),
            tuple(context.args),
        )
        asked = Search(budgets, folds, trials, tuple(search or ()), select, pruner)
        tune_command(given, asked, out, resume, workers, json)


@app.command()
def predict(
    run: Run,
    data: Annotated[str, Argument(help="Rows to predict, with the columns the model was trained on (any order).")],
    out: Annotated[Path | None, Option(help="CSV file to write (default: print).")] = None,
) -> None:
    """Predict rows of raw inputs with a stored model, in original labels or units."""
    from sparelu.cli.predict_show_report import predict_command
    from sparelu.cli.session import plain_errors

    with plain_errors():
        predict_command(run, data, out)


@app.command()
def show(
    run: Run, everything: Annotated[bool, Option("--all", help="List every neuron.")] = False, json: Json = False
) -> None:
    """Print a network as tables: layers, sizes, and which inputs feed which neurons."""
    from sparelu.cli.predict_show_report import show_command
    from sparelu.cli.session import plain_errors

    with plain_errors():
        show_command(run, everything, json)


@app.command()
def report(
    run: Annotated[Path, Argument(help="A run folder written by fit, or a table of rows written by sweep.")],
    beside: Annotated[
        list[Path] | None, Option(help="Another run of one input, drawn in the same chart; may be repeated.")
    ] = None,
) -> None:
    """Write report.html of a run anew, or figures and a board of a sweep."""
    from sparelu.cli.predict_show_report import report_command
    from sparelu.cli.session import plain_errors

    with plain_errors():
        report_command(run, beside or ())


@app.command()
def methods(
    name: Annotated[str | None, Argument(help="A method: list its settings.", autocompletion=_methods_from)] = None,
    json: Json = False,
) -> None:
    """List the methods, or the settings of one."""
    from sparelu.cli.list_methods import methods_table
    from sparelu.cli.session import plain_errors

    with plain_errors():
        _print(*methods_table(name), json)


@app.command()
def datasets(json: Json = False) -> None:
    """List the data sets that are known by name, with their parameters."""
    from sparelu.cli.list_methods import datasets_table
    from sparelu.cli.session import plain_errors

    with plain_errors():
        _print(*datasets_table(), json)


@app.command()
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
    from sparelu.cli.session import plain_errors
    from sparelu.cli.sweep import sweep_command

    with plain_errors():
        sweep_command(grid, out, engine, workers, threads, scheduler, json)


@app.command(context_settings=EXTRA)
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
    from sparelu.cli.compress import compress_command
    from sparelu.cli.session import plain_errors

    with plain_errors():
        compress_command(run, neurons, tolerance, method, context.args, out)


@app.command(context_settings=EXTRA)
def certify(
    context: typer.Context,
    run: Run,
    method: Annotated[str | None, Option(help="A certifier (default: all that apply).")] = None,
    json: Json = False,
) -> None:
    """Print what is proved of a network: claim, value, and each assumption as checked, violated or taken on trust."""
    from sparelu.cli.certify_export import certify_command
    from sparelu.cli.session import plain_errors

    with plain_errors():
        certify_command(run, method, context.args, json)


@app.command()
def export(
    run: Run,
    kind: Annotated[str, Option("--format", help="onnx, onnx-sparse, c or numpy.")] = "onnx",
    out: Annotated[Path | None, Option(help="Folder to write into (default: RUN/export).")] = None,
    name: Annotated[str, Option(help="Name of the files and, in C, of the function.")] = "network",
) -> None:
    """Write a network as ONNX, as C without dependencies, or as NumPy arrays."""
    from sparelu.cli.certify_export import export_command
    from sparelu.cli.session import plain_errors

    with plain_errors():
        export_command(run, kind, out, name)


def _print(table: Any, rows: list[dict[str, Any]], json: bool) -> None:
    from sparelu.cli.session import console

    if json:
        typer.echo(json_text.dumps(rows, indent=1))
    else:
        console.print(table)


def main() -> None:
    """Run the command line."""
    app(prog_name="sparelu")


if __name__ == "__main__":
    main()

"""The command ``recover``: a run folder of the network behind the answers of a program, a library or a file."""

from contextlib import ExitStack
from pathlib import Path

from sparelu import catalogue
from sparelu.budget import Budget
from sparelu.cli.certify_export import print_claims
from sparelu.cli.session import Bar, advising, console, end_interrupted, stoppable
from sparelu.experiments.trials.run_folder import RunFolder, key
from sparelu.json_form import dumps
from sparelu.oracle import Oracle
from sparelu.oracle_sources import open_oracle
from sparelu.outcome import Solution, Status
from sparelu.run import Checkpoint, fit

ANSWERS = "answers"
"""File of a run folder that keeps every answer, so that none is asked for twice."""


def recover_command(
    source: str,
    inputs: int | None,
    outputs: int,
    hidden: tuple[int, ...],
    centre: float,
    spread: float,
    precision: float,
    seed: int,
    limit: int | None,
    out: Path | None,
    resume: bool,
    as_json: bool,
) -> None:
    """Ask, keep what was answered, and print what was found and what is claimed of it."""
    request = {
        "oracle": source,
        "outputs": outputs,
        "hidden": list(hidden),
        "centre": centre,
        "spread": spread,
        "precision": precision,
        "seed": seed,
    }
    folder = RunFolder(out or Path("runs") / f"{Path(source.split()[0]).stem}-queries-{key(request)}")
    with folder.opened(request, resume), advising(_how_to_go_on(folder)):
        oracle = open_oracle(
            source, inputs, outputs, centre=centre, spread=spread, limit=limit, cache=folder.path / ANSWERS
        )
        solution = _fitted(oracle, hidden, precision, seed, folder, resume)
        result = {"rows_asked": oracle.asked, "status": solution.status.name, "nonzeros": solution.network.nonzeros}
        folder.write(solution, result)
    if as_json:
        print(dumps({"folder": str(folder.path), **result, "hidden": list(solution.network.hidden)}, indent=1))
        return
    console.print(
        f"{solution.status.name}: {solution.network.hidden[0]} neurons with {solution.network.nonzeros:,} weights and "
        f"{solution.network.skip_nonzeros} of a skip part, from {oracle.asked:,} rows asked, in {folder.path}",
        highlight=False,
        soft_wrap=True,
    )
    print_claims(solution.certificates)


def _fitted(
    oracle: Oracle, hidden: tuple[int, ...], precision: float, seed: int, folder: RunFolder, resume: bool
) -> Solution:
    """Run the method with a bar, and stop where it can go on."""
    with ExitStack() as stack:
        stop, bar = stack.enter_context(stoppable()), stack.enter_context(Bar())
        solution = fit(
            catalogue.fitter("queries", precision=precision),
            oracle,
            Budget(hidden),
            seed=seed,
            checkpoint=Checkpoint(folder.checkpoint),
            resume=resume,
            stop=stop,
            watch=lambda it: bar.update(it.progress, f"{it.numbers['neurons']:.0f} neurons, {oracle.asked:,} rows"),
        )
    if solution.status is Status.interrupted:
        end_interrupted(_how_to_go_on(folder))
    return solution


def _how_to_go_on(folder: RunFolder) -> str:
    return f"{folder.path} keeps every answer: repeat the command with --resume --out {folder.path}"

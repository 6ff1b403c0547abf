"""Command lines and files that nobody should give: drawn from a seed, each wrong in one way or in several."""

from dataclasses import dataclass

import numpy as np

NUMBERS = (
    *("nan", "inf", "-inf", "-1", "0", "1e400", "-0.5", "1.5", "x", "", "9" * 30, "0x10", "1_000", "1,2", "[/b]", "--"),
    *("2147483648", "None", "--out", "True"),
)
WORDS = ("", "[/b]", "\x1b[2J", "../..", "/dev/null", "nothing", "-", "a b", "é", ".", "x" * 300, "run", "d.csv", "\\")
CELLS = ("", "x", "nan", "inf", "1e400", "=1", "1,2", '"', "\x00", "é", "[/b]", "9" * 400, "true", " 1 ", "None")
FLAGS = {
    "fit": {
        **dict.fromkeys(("--nonzeros", "--density", "--sparsity", "--compression", "--seed", "--seconds"), NUMBERS),
        **dict.fromkeys(("--test-fraction", "--save-every", "--folds", "--budgets", "--hidden", "--channels"), NUMBERS),
        **dict.fromkeys(("--rank-timeout", "--epochs", "--rate"), NUMBERS),
        **dict.fromkeys(("--target", "--task", "--method", "--device", "--select", "--no-such-flag"), WORDS),
    },
    "tune": {
        **dict.fromkeys(("--budgets", "--trials", "--folds", "--workers", "--seed", "--nonzeros"), NUMBERS),
        **dict.fromkeys(("--search", "--pruner", "--method", "--target", "--select"), WORDS),
    },
    "sweep": {
        **dict.fromkeys(("--workers", "--threads"), NUMBERS),
        **dict.fromkeys(("--engine", "--scheduler"), WORDS),
    },
    "predict": {"--no-such-flag": WORDS},
    "show": {"--no-such-flag": WORDS},
    "report": {"--beside": WORDS},
    "compress": {
        **dict.fromkeys(("--neurons", "--tolerance", "--restarts", "--steps"), NUMBERS),
        "--method": WORDS,
    },
    "certify": {"--method": WORDS, "--points": NUMBERS},
    "export": {"--format": WORDS, "--name": WORDS},
    "recover": {
        **dict.fromkeys(("--hidden", "--inputs", "--outputs", "--centre", "--spread", "--precision"), NUMBERS),
        **dict.fromkeys(("--limit", "--seed"), NUMBERS),
    },
    "methods": {"--no-such-flag": WORDS},
    "datasets": {"--no-such-flag": WORDS},
}
"""Flags of each command, with what they may be given."""


@dataclass(frozen=True)
class Case:
    """A command line, and the files that it finds beside a finished run ``run``."""

    arguments: tuple[str, ...]
    files: dict[str, bytes]


def pick(rng: np.random.Generator, some: tuple[str, ...] | list[str]) -> str:
    """Return one of some texts."""
    return some[int(rng.integers(len(some)))]


def table(rng: np.random.Generator) -> bytes:
    """Return a CSV file with something wrong in it, or nothing."""
    rows = [["a", "b", "y"], *([f"{v:.3f}" for v in rng.standard_normal(3)] for _ in range(12))]
    match int(rng.integers(8)):
        case 0:
            rows[int(rng.integers(13))][int(rng.integers(3))] = pick(rng, CELLS)
        case 1:
            rows[int(rng.integers(13))] = []
        case 2:
            rows[int(rng.integers(13))].append(pick(rng, CELLS))
        case 3:
            for row in rows[1:]:
                row[int(rng.integers(3))] = pick(rng, CELLS)
        case 4:
            column = int(rng.integers(3))
            for row in rows[1:]:
                row[column] = "7"
        case 5:
            rows = rows[: int(rng.integers(3))]
        case 6:
            return rng.bytes(int(rng.integers(200)))
    return "\n".join(",".join(row) for row in rows).encode("utf-8", "surrogatepass") + b"\n"


def grid(rng: np.random.Generator) -> bytes:
    """Return a grid file whose fields have values of any kind."""
    values = (
        "1",
        "-1",
        "nan",
        "inf",
        '"x"',
        "[]",
        "[1, [2]]",
        "{}",
        "true",
        "[1, 2]",
        '"@seed"',
        '"@no"',
        '"[/b]"',
        "1e9",
    )
    fields = (
        "data",
        "method",
        "hidden",
        "nonzeros",
        "density",
        "seed",
        "target",
        "settings",
        "parameters",
        "folds",
        "no",
    )
    chosen = {"data": '"d.csv"', "target": '"y"', "nonzeros": "3"}
    chosen |= {pick(rng, list(fields)): pick(rng, list(values)) for _ in range(int(rng.integers(1, 3)))}
    return "\n".join(["[[trials]]", *(f"{name} = {value}" for name, value in chosen.items())]).encode()


def first_argument(rng: np.random.Generator, verb: str) -> list[str]:
    """Return what the command is about: as a rule the right thing."""
    if verb in ("methods", "datasets"):
        return [] if verb == "datasets" or rng.random() < 0.5 else [pick(rng, WORDS)]
    if rng.random() < 0.1:
        return [pick(rng, WORDS)]
    right = {"fit": "d.csv", "tune": "d.csv", "sweep": "grid.toml", "recover": "cat"}
    return [right.get(verb, "run"), *(["d.csv"] if verb == "predict" else [])]


def case(seed: int) -> Case:
    """Return the command line of a seed."""
    rng = np.random.default_rng([seed, 0xBAD])
    verb = pick(rng, list(FLAGS))
    arguments = [verb, *first_argument(rng, verb)]
    if verb in ("fit", "tune") and rng.random() < 0.7:
        arguments += ["--target", "y"]
    if verb == "fit" and rng.random() < 0.6:
        arguments += ["--nonzeros", "3"]
    if verb in ("fit", "tune"):
        arguments += ["--method", pick(rng, ["shrunk", "shrunk", "univariate", "magnitude"]), "--hidden", "4"]
    for _ in range(int(rng.integers(0, 3))):
        flag = pick(rng, list(FLAGS[verb]))
        arguments += [flag, pick(rng, list(FLAGS[verb][flag]))]
    if verb in ("fit", "tune", "compress", "export", "sweep", "recover", "predict"):
        arguments += ["--out", pick(rng, ["out", "out", "out", *WORDS])]
    return Case(tuple(a for a in arguments if "\x00" not in a), {"d.csv": table(rng), "grid.toml": grid(rng)})

"""The commands that take a finished run further: fewer neurons with the curve drawn, claims, exports."""

import json
import struct
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from sparelu.cli.__main__ import app
from sparelu.cli.certify_export import data_of
from sparelu.cli.session import OK, REFUSED, USAGE
from sparelu.experiments.trials.run_folder import RunFolder

QUICK = ("--restarts", "1", "--steps", "15", "--refit", "outputs")


def invoke(*arguments: str):
    """Run a command in this process; result with exit_code, stdout and stderr."""
    return CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200"})


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished fit of a sine by eight neurons."""
    where = tmp_path_factory.mktemp("compressing") / "run"
    settings = ("--hidden", "8", "--nonzeros", "8", "--method", "magnitude", "--epochs", "20")
    done = invoke("fit", "curve:shape=sine,rows=120", *settings, "--out", str(where))
    assert done.exit_code == OK, done.output
    return where


def test_the_curve_is_drawn_and_measured_on_the_networks(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "small"
    done = invoke("compress", str(run), "--neurons", "3", *QUICK, "--out", str(out))
    assert done.exit_code == OK, done.output
    picture = (out / "error-against-neurons.png").read_bytes()
    assert picture[:8] == b"\x89PNG\r\n\x1a\n"
    assert min(struct.unpack(">II", picture[16:24])) > 500
    assert (out / "error-against-neurons.pdf").read_bytes()[:5] == b"%PDF-"
    solution, _, result = RunFolder(out).read()
    original, request, _ = RunFolder(run).read()
    assert [w["neurons"] for w in result["widths"]["widths"] if w["chosen"]] == [3]
    chosen = next(w for w in result["widths"]["widths"] if w["chosen"])
    x = data_of(request)[1].test.x
    wanted, said = original.network(x).numpy(), solution.network(x).numpy()
    assert chosen["test"] == pytest.approx(((wanted - said) ** 2).mean() / wanted.var(), rel=1e-6)
    page = (out / "report.html").read_text()
    assert "Error against neurons" in page
    assert "variance lost" in done.output


def test_a_tolerance_takes_the_fewest_neurons_that_keep_the_training_score(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "tolerant"
    done = invoke("compress", str(run), "--tolerance", "0.01", *QUICK, "--out", str(out))
    assert done.exit_code == OK, done.output
    _, _, result = RunFolder(out).read()
    curve = result["widths"]
    least = curve["train_score"] - 0.01
    chosen = next(w for w in curve["widths"] if w["chosen"])
    assert chosen["train_score"] >= least
    fewer = [w for w in curve["widths"] if w["neurons"] < chosen["neurons"]]
    assert all(w["train_score"] < least for w in fewer)
    assert max(w["neurons"] for w in fewer) >= chosen["neurons"] - 1


def test_as_many_neurons_as_there_are_come_back_unchanged_with_the_reason(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "same"
    done = invoke("compress", str(run), "--neurons", "99", *QUICK, "--out", str(out))
    assert done.exit_code == OK, done.output
    assert "returned unchanged" in done.output
    x = np.linspace(-1, 1, 7)[:, None]
    assert (RunFolder(out).read()[0].network(x) == RunFolder(run).read()[0].network(x)).all()


def test_exact_merging_leaves_out_the_widths_that_it_refuses(run: Path, tmp_path: Path) -> None:
    deep = tmp_path / "deep"
    settings = ("--hidden", "5,4", "--nonzeros", "20", "--method", "magnitude", "--epochs", "2")
    assert invoke("fit", "curve:shape=sine,rows=60", *settings, "--out", str(deep)).exit_code == OK
    for first, hidden in ((run, "8"), (deep, "5,4")):
        out = tmp_path / hidden
        done = invoke("compress", str(first), "--method", "merge", "--neurons", hidden, "--out", str(out))
        assert done.exit_code == OK, done.output
        original, request, _ = RunFolder(first).read()
        x = data_of(request)[1].train.x
        gap = RunFolder(out).read()[0].network(x) - original.network(x)
        assert float(gap.abs().max()) < 1e-5
        assert (out / "error-against-neurons.png").is_file()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "give one of --neurons and --tolerance"),
        (("--neurons", "0"), "hidden widths must be at least 1"),
        (("--neurons", "few"), "--neurons must be whole numbers separated by commas, got 'few'"),
        (("--tolerance", "nan"), "--tolerance must be at least 0, got nan"),
        (("--tolerance", "-0.1"), "--tolerance must be at least 0, got -0.1"),
        (("--neurons", "2", "--method", "poplation"), "did you mean 'population'"),
    ],
)
def test_bad_wishes_are_named(run: Path, tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
    done = invoke("compress", str(run), *arguments, "--out", str(tmp_path / "none"))
    assert done.exit_code == USAGE
    assert words in done.stderr
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("wish", [("--neurons", "2"), ("--tolerance", "0.1")])
def test_a_refusal_is_said_where_every_width_is_refused(run: Path, tmp_path: Path, wish: tuple[str, str]) -> None:
    done = invoke("compress", str(run), *wish, "--method", "simplex", "--out", str(tmp_path / "none"))
    assert done.exit_code == REFUSED
    assert "the closed form is for one output without biases" in done.stderr


def test_claims_are_printed_kept_and_in_the_report(run: Path) -> None:
    done = invoke("certify", str(run), "--json")
    assert done.exit_code == OK, done.output
    said = json.loads(done.stdout)
    claims = {claim["claim"] for claim in said["claims"]}
    assert any("linear regions" in claim for claim in claims)
    assert len(claims) >= 3
    assert all(
        a["state"] in ("checked", "violated", "taken on trust") for c in said["claims"] for a in c["assumptions"]
    )
    assert claims == {c.claim for c in RunFolder(run).read()[0].certificates}
    page = (run / "report.html").read_text()
    assert all(claim.split("'")[0][:40] in page for claim in claims)
    assert len(json.loads(invoke("certify", str(run), "--json").stdout)["claims"]) == len(said["claims"])


@pytest.mark.parametrize(("kind", "file"), [("c", "net.c"), ("numpy", "layer0.npz"), ("onnx", "net.onnx")])
def test_a_run_is_exported(run: Path, tmp_path: Path, kind: str, file: str) -> None:
    done = invoke("export", str(run), "--format", kind, "--name", "net", "--out", str(tmp_path))
    assert done.exit_code == OK, done.output
    assert (tmp_path / file).is_file(), list(tmp_path.iterdir())

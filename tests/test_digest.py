"""Data by their content: whatever decides a fit or a score changes the digest, and nothing else does."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sparelu import store
from sparelu.data import Budget, Data, Split
from sparelu.digest import BLOCK_ROWS, block_rows, changed, difference
from sparelu.run import Checkpoint, certify, fit
from sparelu.runtime.distributed import Alone
from tests.contract.test_checks_can_fail import Random


def table(seed: int = 0, rows: int = 30) -> Data:
    rng = np.random.default_rng(seed)
    return Data(rng.standard_normal((rows, 3)), rng.standard_normal(rows), names=("a", "b", "c"))


def one_bit(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    out = np.array(values)
    flat = out.reshape(-1)
    at = rng.integers(flat.size)
    flat[at] = np.nextafter(flat[at], np.inf)
    return out


def changes(data: Data, rng: np.random.Generator) -> dict[str, tuple[Data, str]]:
    """Other data that moments, shapes or names alone would not tell apart, and the part that differs."""
    order = np.roll(np.arange(data.n), 1 + rng.integers(data.n - 1))
    x, y = np.asarray(data.x), np.asarray(data.y)
    return {
        "shuffled targets": (replace(data, y=y[order]), "its targets"),
        "shuffled inputs": (replace(data, x=x[order]), "the values or the order of its inputs"),
        "a target of one bit more": (replace(data, y=one_bit(y, rng)), "its targets"),
        "an input of one bit more": (replace(data, x=one_bit(x, rng)), "the values or the order of its inputs"),
        "columns exchanged": (replace(data, x=x[:, [1, 0, 2]]), "the values or the order of its inputs"),
        "names exchanged": (replace(data, names=("b", "a", "c")), "its shape, names, classes or types"),
        "another target": (replace(data, target="z"), "its shape, names, classes or types"),
    }


@pytest.mark.parametrize("seed", range(5))
def test_every_change_is_seen_and_named(seed: int) -> None:
    data = table(seed)
    rng = np.random.default_rng(seed)
    digests = {data.digest}
    for name, (other, part) in changes(data, rng).items():
        assert difference(data.digest, other.digest) == part, name
        digests.add(other.digest)
    assert len(digests) == 8
    rows = rng.permutation(data.n)
    assert difference(data.digest, data.take(rows).digest) == "the values or the order of its inputs and its targets"
    assert "its shape" in difference(data.digest, data.take(np.arange(data.n - 1)).digest)
    single = replace(data, x=np.asarray(data.x, np.float32))
    assert "types" in difference(data.digest, single.digest)


def test_classes_count_as_well_as_labels() -> None:
    x = np.arange(4.0)[:, None]
    a, b = (Data(x, np.array(labels), "classification") for labels in (["n", "y", "n", "y"], ["0", "y", "0", "y"]))
    assert difference(a.digest, b.digest) == "its shape, names, classes or types"


def test_what_holds_the_rows_does_not_count(tmp_path: Path) -> None:
    data = table(rows=BLOCK_ROWS + 7)
    np.save(tmp_path / "x.npy", data.x)
    mapped = replace(data, x=np.load(tmp_path / "x.npy", mmap_mode="r"), name="other", device="meta")
    assert mapped.digest == data.digest
    assert data.take(np.arange(data.n)).digest == data.digest
    assert replace(data, x=np.asfortranarray(data.x)).digest == data.digest


def test_the_digest_is_the_one_that_is_written_down() -> None:
    """Computed here from the bytes; were it another, every kept row of a file would be computed anew."""
    data = table()
    hashes = [hashlib.sha256(np.asarray(v).tobytes()).digest()[:16] for v in (data.x, data.y)]
    parts = [hashlib.sha256(h).hexdigest()[:32] for h in hashes]
    form = '[30, 3, 30, "regression", "y", ["a", "b", "c"], [], null, ["<f8", "<f8"]]'
    assert data.digest == "-".join([*parts, hashlib.sha256(form.encode()).hexdigest()[:32]])
    assert (block_rows(1), block_rows(1000), block_rows(10**6)) == (1024, 1024, 16)


class Part(Alone):
    """One of several ranks, which keeps what it would exchange."""

    def __init__(self, rank: int, size: int) -> None:
        super().__init__(rank, size)
        self.given = []

    def sum(self, values):
        self.given.append(values.clone())
        return values


@pytest.mark.parametrize("size", [2, 3, 7])
def test_ranks_hash_every_block_once(size: int) -> None:
    data = table(rows=5 * BLOCK_ROWS + 100)
    whole = Part(0, 1)
    _ = data.share(whole).digest
    total, sums = 0, 0
    for rank in range(size):
        part = Part(rank, size)
        _ = data.share(part).digest
        total = total + part.given[0]
        sums = sums + part.given[2]
    assert (total == whole.given[0]).all()
    assert (whole.given[0] != 0).all()
    assert float(sums) == data.n


def test_test_rows_belong_to_a_split() -> None:
    split = table(rows=40).split(0.25, 0)
    other = replace(split, test=replace(split.test, y=np.asarray(split.test.y)[::-1].copy()))
    assert difference(split.digest, other.digest) == "its targets"
    data = table()
    assert Split(data, data, "", None, "training").digest == data.digest


def test_a_message_names_what_changed() -> None:
    a, b = table(0).digest, changes(table(0), np.random.default_rng(0))["shuffled targets"][0].digest
    words = changed("data.csv", a, b)
    assert words.startswith("data.csv has changed: its targets (")
    assert words.endswith(" now)")
    assert difference("anything", b) != ""


@pytest.mark.parametrize("name", list(changes(table(), np.random.default_rng(0))))
def test_no_checkpoint_goes_on_with_other_data(tmp_path: Path, name: str) -> None:
    data = table()
    place = Checkpoint(tmp_path / "state", every=0.0)
    solution = fit(Random(), data, Budget((4,), nonzeros=4), checkpoint=place)
    assert solution.about["data_digest"] == data.digest
    other, part = changes(data, np.random.default_rng(0))[name]
    with pytest.raises(store.StoreError, match=f"other data: .*{part}"):
        fit(Random(), other, Budget((4,), nonzeros=4), checkpoint=place, resume=True)
    assert fit(Random(), data, Budget((4,), nonzeros=4), checkpoint=place, resume=True).about == solution.about


def test_a_claim_says_of_which_data() -> None:
    from sparelu import catalogue

    data = table(rows=300)
    network = fit(Random(), data, Budget((4,), nonzeros=4)).network
    claim = certify(catalogue.certifier("generalise"), network, data)
    assert claim.data == data.digest

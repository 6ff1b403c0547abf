"""Files of solutions and states: exact return, and clear words for every damage."""

import errno
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load, save

from sparelu import store
from sparelu.data import Budget
from sparelu.outcome import Assumption, Certificate, Solution, Status
from tests.contract.checks import same_bits
from tests.networks.test_network import random_network


def solution(seed: int = 0, **changes) -> Solution:
    net = random_network(seed, (5, 4, 1), skip=bool(seed % 2))
    claim = Certificate("error", 0.5, "nats", (Assumption("rows are independent", "taken on trust"),), source="test")
    given = Solution(
        net, Status.converged, "toy", {"rate": 0.1, "list": [1, 2]}, Budget((4,), nonzeros=20), 7, True,
        seconds=1.25, peak_memory=10, history=({"loss": 0.5, "progress": 1.0},), certificates=(claim,),
        task="classification", classes=("ä", "b"), names=tuple("vwxyz"), versions={"torch": "2"}, about={"data": "toy"},
    )  # fmt: skip
    return replace(given, **changes)


@given(st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_a_solution_comes_back_whole(tmp_path_factory, seed: int) -> None:
    path = tmp_path_factory.mktemp("s") / "model.safetensors"
    given = solution(seed)
    size = store.save(given, path)
    back = store.load(path)
    assert size == path.stat().st_size
    assert same_bits(given.network, back.network)
    same = [f for f in Solution.__dataclass_fields__ if f != "network"]
    assert {f: getattr(given, f) for f in same} == {f: getattr(back, f) for f in same}


def test_a_wide_network_is_small_on_disk(tmp_path: Path) -> None:
    from tests.networks.test_network import Layer, Network

    s = 1000
    hidden = Layer.from_triplets((10**6, 784), np.arange(s) * 997, np.arange(s) % 784, np.ones(s, dtype=np.float32))
    output = Layer.from_triplets((1, 10**6), np.zeros(s, int), np.arange(s) * 997, np.ones(s, dtype=np.float32))
    assert store.save(solution(network=Network((hidden, output))), tmp_path / "m") < 30_000


def test_a_state_comes_back_whole(tmp_path: Path) -> None:
    state = {
        "a": torch.arange(3),
        "b": {"c": [1, 2.5, None, {"d": torch.tensor([1.5])}], "text": "x"},
        "big": 2**100,
        "third": 1 / 3,
    }
    store.save_state(state, tmp_path / "s")
    back = store.load_state(tmp_path / "s")
    assert torch.equal(back["a"], state["a"])
    assert back["b"]["c"][:3] == [1, 2.5, None]
    assert back["b"]["c"][3]["d"].tolist() == [1.5]
    assert (back["big"], back["third"], back["b"]["text"]) == (2**100, 1 / 3, "x")


def damaged(path: Path, how: str) -> bytes:
    content = bytearray(path.read_bytes())
    if how == "truncated":
        return bytes(content[: len(content) // 2])
    if how == "empty":
        return b""
    if how == "text":
        return b"hello, this is no model at all" * 10
    size = int.from_bytes(content[:8], "little")
    meta = json.loads(content[8 : 8 + size])["__metadata__"]
    arrays = load(bytes(content))
    if how == "changed number":
        arrays["layer0.values"] = arrays["layer0.values"] * 2
    if how == "changed header":
        meta["header"] = meta["header"].replace('"toy"', '"joy"')
    if how == "newer":
        meta["format"] = "99"
    return save(arrays, metadata=meta)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("truncated", "truncated, or not a file of sparelu"),
        ("empty", "truncated, or not a file of sparelu"),
        ("text", "truncated, or not a file of sparelu"),
        ("changed number", "does not match its checksum"),
        ("changed header", "does not match its checksum"),
        ("newer", "newer sparelu .*pip install -U"),
    ],
)
def test_damage_is_named(tmp_path: Path, how: str, words: str) -> None:
    path = tmp_path / "model.safetensors"
    store.save(solution(), path)
    path.write_bytes(damaged(path, how))
    with pytest.raises(store.StoreError, match=words):
        store.load(path)


def test_missing_and_mistaken_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(store.StoreError, match="no such file"):
        store.load(tmp_path / "nothing")
    store.save_state({"a": 1}, tmp_path / "state")
    with pytest.raises(store.StoreError, match="holds 'state', wanted 'solution'"):
        store.load(tmp_path / "state")


@pytest.mark.parametrize("moment", ["open", "fsync", "replace"])
def test_a_failing_write_keeps_the_last_good_file(tmp_path: Path, monkeypatch, moment: str) -> None:
    path = tmp_path / "model.safetensors"
    store.save(solution(0), path)
    before = path.read_bytes()

    def full(*_args) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, moment, full)
    with pytest.raises(OSError, match="No space left"):
        store.save(solution(1), path)
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == [path.name]

"""Seeded changes of bytes, of JSON values, of texts and of arrays: small ones, and those that readers trip over."""

import copy
import json
import struct
from collections.abc import Callable
from typing import Any

import numpy as np

DEEP: Any = None
for _ in range(150):
    DEEP = [DEEP]
ODD: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 7, 255, 2**31 - 1, 2**31, 2**63 - 1, 2**63, 2**64, 10**30, -(2**31)),
    *(0.0, 0.5, -0.0, 1e308, 5e-324, float("nan"), float("inf"), float("-inf")),
    *("", "x", "[/b]", "../up", "\x00", "é" * 3, "y" * 5000, "1", "nan", "layer0.values", "weight"),
    *([], {}, [[]], [1, 2], ["a"], {"a": 1}, {"__array__": "no"}, DEEP),
)
PIECES = (
    b"\x00",
    b"\xff",
    b"{",
    b"[",
    b'"',
    b",",
    b"\n",
    b"\xef\xbb\xbf",
    b"1e999",
    b"NaN",
    b"=",
    b"\x00" * 40,
    b"9" * 40,
)
NUMBERS = (0, 1, 2, 127, 255, 256, 65535, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1)
TYPES = ("u1", "u2", "u4", "i4", "i8", "f2", "f4", "f8", "b1", "u8", "i1")


def pick(rng: np.random.Generator, some: Any) -> Any:
    return some[int(rng.integers(len(some)))]


def changed_bytes(rng: np.random.Generator, content: bytes) -> bytes:
    """One to four changes of single bytes, pieces, lengths and whole numbers."""
    data = bytearray(content)
    for _ in range(int(rng.integers(1, 5))):
        at = int(rng.integers(len(data) + 1))
        match int(rng.integers(7)):
            case 0 if data:
                data[at % len(data)] ^= 1 << int(rng.integers(8))
            case 1:
                data[at:at] = pick(rng, PIECES)
            case 2:
                del data[at : at + int(rng.integers(1, 64))]
            case 3:
                del data[at:]
            case 4:
                data[at:at] = data[at : at + int(rng.integers(1, 200))]
            case 5:
                size = int(pick(rng, (1, 2, 4, 8)))
                number = pick(rng, NUMBERS) % 256**size
                data[at : at + size] = number.to_bytes(size, pick(rng, ("little", "big")))
            case _:
                other = int(rng.integers(len(data) + 1))
                data[at : at + 16], data[other : other + 16] = data[other : other + 16], data[at : at + 16]
    return bytes(data)


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) below a JSON value."""
    found, left = [], [value]
    while left:
        outer = left.pop()
        keys = outer.keys() if isinstance(outer, dict) else range(len(outer)) if isinstance(outer, list) else ()
        for key in list(keys):
            found.append((outer, key))
            left.append(outer[key])
    return found


def changed_json(rng: np.random.Generator, value: Any) -> Any:
    """One to three entries replaced, left out, renamed, doubled or exchanged."""
    value = copy.deepcopy(value)
    for _ in range(int(rng.integers(1, 4))):
        found = places(value)
        if not found:
            return copy.deepcopy(pick(rng, ODD))
        outer, key = pick(rng, found)
        match int(rng.integers(7)):
            case 0 | 1 | 2:
                outer[key] = copy.deepcopy(pick(rng, ODD))  # one that is changed again must not be in itself
            case 3:
                del outer[key]
            case 4 if isinstance(outer, dict):
                outer[pick(rng, ("", "x", key + "2", "__array__", "shape"))] = outer.pop(key)
            case 4 | 5 if isinstance(outer, list):
                outer.insert(key, copy.deepcopy(outer[key]))
            case _:
                other, where = pick(rng, found)
                outer[key] = copy.deepcopy(other[where])
    return value if rng.random() > 0.02 else copy.deepcopy(pick(rng, ODD))


def changed_arrays(rng: np.random.Generator, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """One or two arrays with another type, shape, length, order or number, left out or under another name."""
    out = dict(arrays)
    for _ in range(int(rng.integers(1, 3))):
        if not out:
            return out
        name = pick(rng, sorted(out))
        array = out[name]
        match int(rng.integers(9)):
            case 0:
                with np.errstate(all="ignore"):
                    out[name] = array.astype(pick(rng, TYPES))
            case 1:
                out[name] = array.reshape(-1)[: int(rng.integers(array.size + 1))]
            case 2:
                out[name] = np.concatenate([array.reshape(-1), array.reshape(-1)[:3]])
            case 3:
                out[name] = array.reshape(pick(rng, ((1, -1), (-1, 1), (1, 1, -1))))
            case 4 | 5 if array.size:
                flat = array.copy().reshape(-1)
                flat[int(rng.integers(flat.size))] = _odd_number(rng, flat.dtype)
                out[name] = flat.reshape(array.shape)
            case 6:
                out[name] = rng.permutation(array.reshape(-1)).reshape(array.shape)
            case 7:
                out[pick(rng, ("x", "layer0.bias", "layer9.values", name + "2"))] = out.pop(name)
            case _:
                del out[name]
    return out


def _odd_number(rng: np.random.Generator, dtype: np.dtype[Any]) -> Any:
    if dtype.kind == "f":
        return pick(rng, (0.0, -0.0, np.nan, np.inf, -np.inf, 1e300 if dtype.itemsize == 8 else 1e30, 5e-324))
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        return pick(rng, (info.min, info.max, 0, 1, 2, 5, info.max // 2 + 1))
    return dtype.type(0)


def nested(depth: int) -> str:
    """A JSON text of so many lists in one another."""
    return "[" * depth + "]" * depth


def json_text(value: Any) -> str:
    return json.dumps(value, default=str)


Mutator = Callable[[np.random.Generator, bytes], bytes]


def npy_with_header(rng: np.random.Generator, content: bytes) -> bytes:
    """An NPY file whose header says something else: a shape, a type or an order that its bytes do not have."""
    size = struct.unpack("<H", content[8:10])[0]
    shape = pick(
        rng, ((2**40, 2**20), (10**9,), (-1, 3), (0, 3), (3, 0), (2**63, 1), (), (5, 5, 5), (1, 2**31), (2**62, 4))
    )
    kind = pick(rng, ("<f8", "|O", "<U1000000", "<c16", "|V8", "<M8[s]", ">f8", "|b1", "[('a', '<f8')]", "zz", "|S0"))
    described = kind if kind[0] == "[" else repr(kind)
    text = f"{{'descr': {described}, 'fortran_order': {pick(rng, (True, False))}, 'shape': {shape}}}"
    header = text.encode().ljust(117) + b"\n"
    return content[:8] + struct.pack("<H", len(header)) + header + content[10 + size :]

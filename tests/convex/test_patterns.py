import itertools

import numpy as np
import pytest
from scipy.optimize import linprog
from sympy import Matrix, Rational

from sparelu.convex.arrangement import enumerate_patterns, independent_columns
from sparelu.convex.patterns import Patterns, draw_gates, draw_patterns, largest_count


def _by_linear_programs(x: np.ndarray) -> set[bytes]:
    """Every pattern some gate has strictly: one feasibility program for each of the 2^m signs of nonzero rows."""
    live = np.flatnonzero((x != 0).any(axis=1))
    found = set()
    for signs in itertools.product((1, -1), repeat=len(live)):
        a = -np.array(signs)[:, None] * x[live]
        done = linprog(np.zeros(x.shape[1]), A_ub=a, b_ub=-np.ones(len(live)), bounds=(None, None))
        mask = np.ones(len(x), dtype=bool)
        mask[live] = np.array(signs) > 0
        if done.status == 0 and mask.any():
            found.add(mask.tobytes())
    return found


def _special(name: str) -> np.ndarray:
    rng = np.random.default_rng(0)
    plain = rng.standard_normal((7, 3))
    return {
        "general": plain,
        "doubles and opposites": np.vstack([plain[:4], plain[:2], -plain[:1], np.zeros((1, 3))]),
        "grid with a constant": np.array([[i, j, 1.0] for i in range(3) for j in range(3)]),
        "rank two in four columns": rng.integers(-3, 4, (7, 2)) @ rng.integers(-2, 3, (2, 4)) * 1.0,
        "one column": rng.standard_normal((5, 1)),
        "one input and a constant": np.column_stack([[0.0, 1, 2, 2, 5], np.ones(5)]),
        "nearly in one plane": np.vstack([plain[:3], plain[:1] + plain[1:2], plain[:1] + plain[1:2] * (1 + 2**-50)]),
        "all zero": np.zeros((4, 2)),
    }[name]


NAMES = ("general", "doubles and opposites", "grid with a constant", "rank two in four columns", "one column")


@pytest.mark.parametrize("name", [*NAMES, "one input and a constant"])
def test_enumeration_is_what_linear_programs_find(name: str) -> None:
    x = _special(name)
    found = enumerate_patterns(x)
    assert found is not None
    assert found.complete
    assert {m.tobytes() for m in found.masks()} == _by_linear_programs(x)
    assert ((x @ found.gates.T >= 0) | (x == 0).all(axis=1)[:, None]).T.tolist() == found.masks().tolist()


def test_rows_that_rounding_cannot_tell_apart_are_told_apart() -> None:
    x = _special("nearly in one plane")
    assert not np.array_equal(x[3], x[4])
    found = enumerate_patterns(x)
    assert found is not None
    plane = enumerate_patterns(np.vstack([x[:4], 2 * x[3:4]]))
    assert plane is not None
    assert len(found) > len(plane)
    assert len(found) == _count_exactly(x) - 1  # all five rows can be silent at once: that pattern is left out


def _count_exactly(x: np.ndarray) -> int:
    """Cells in the space of gates by Zaslavsky: sum of |Moebius function| over flats, from exact ranks of subsets."""
    total = 0
    for size in range(len(x) + 1):
        for rows in itertools.combinations(range(len(x)), size):
            rank = Matrix([[Rational(v) for v in x[r]] for r in rows]).rank() if rows else 0
            total += (-1) ** (size - rank)
    return total


def test_hundreds_of_rows_in_general_position_have_as_many_patterns_as_cover_says() -> None:
    x = np.random.default_rng(1).standard_normal((120, 3))
    found = enumerate_patterns(x)
    assert found is not None
    silent = (x @ np.array([0.0, 0, 1]) < 0).all()
    assert not silent
    assert len(found) == largest_count(120, 3) == 2 * (1 + 119 + 119 * 118 / 2)
    assert np.array_equal(x @ found.gates.T >= 0, found.masks().T)


def test_higher_ranks_are_not_enumerated() -> None:
    assert enumerate_patterns(np.random.default_rng(0).standard_normal((9, 4))) is None
    assert independent_columns(_special("rank two in four columns")) is not None


def test_drawn_patterns_are_distinct_and_those_of_their_gates() -> None:
    x = np.column_stack([np.random.default_rng(2).standard_normal((60, 4)) * [1, 100, 0.01, 1] + 50, np.ones(60)])
    found = draw_patterns(x, 300, np.random.default_rng(3))
    assert len(found) == 300 == len(np.unique(found.masks(), axis=0))
    assert np.array_equal((x @ found.gates.T >= 0).T, found.masks())
    share = found.masks().mean(axis=1)
    assert np.mean((share > 0.1) & (share < 0.9)) > 0.3  # the hyperplanes pass through the cloud of rows, far from zero


def test_a_draw_ends_when_there_are_no_more() -> None:
    x = np.random.default_rng(4).standard_normal((6, 2))
    found = draw_patterns(x, 500, np.random.default_rng(5))
    whole = enumerate_patterns(x)
    assert whole is not None
    assert {m.tobytes() for m in found.masks()} <= {m.tobytes() for m in whole.masks()}
    assert 6 <= len(found) <= 12


def test_bits_blocks_and_parts_agree() -> None:
    x = np.random.default_rng(6).standard_normal((37, 3))
    gates = draw_gates(x, 40, np.random.default_rng(7))
    found = Patterns.of_gates(x, np.vstack([gates, gates[:5]]))
    assert found.bits.shape == (len(found), 5)
    assert np.array_equal(np.vstack([m for _, m in found.blocks()]), found.masks())
    again = found.take(np.array([3, 1])).add(found.take(np.array([1, 2])))
    assert np.array_equal(again.masks(), found.masks(np.array([3, 1, 2])))
    assert found.masks().any(axis=1).all()

"""Densities of layers against printed values, and totals that are exact."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparelu.train.sparsifier.layer_densities import ALLOCATIONS, allocation, exactly, scaled_densities

LENET_300 = {"fc1": (300, 784), "fc2": (100, 300), "fc3": (10, 100)}
LENET_5 = {"conv1": (20, 1, 5, 5), "conv2": (50, 20, 5, 5), "fc1": (500, 800), "fc2": (10, 500)}
RESNET_20 = {
    "conv1": (16, 3, 3, 3),
    **{f"stage1.{i}": (16, 16, 3, 3) for i in range(6)},
    "stage2.0": (32, 16, 3, 3),
    **{f"stage2.{i}": (32, 32, 3, 3) for i in range(1, 6)},
    "stage3.0": (64, 32, 3, 3),
    **{f"stage3.{i}": (64, 64, 3, 3) for i in range(1, 6)},
    "fc": (10, 64),
}


def kernel(shape: tuple[int, ...]) -> float:
    return sum(shape) / math.prod(shape)


@pytest.mark.parametrize(
    ("shapes", "density", "wanted"),
    [
        (LENET_300, 0.10, {"fc1": 0.0796, "fc2": 0.2302, "fc3": 1.0}),
        (LENET_300, 0.05, {"fc1": 0.0385, "fc2": 0.1113, "fc3": 0.9185}),
        (LENET_300, 0.02, {"fc1": 0.0154, "fc2": 0.0445, "fc3": 0.3674}),
        (LENET_5, 0.10, {"conv1": 1.0, "conv2": 0.0871, "fc1": 0.0884, "fc2": 1.0}),
        (LENET_5, 0.05, {"conv1": 0.7261, "conv2": 0.0375, "fc1": 0.0381, "fc2": 1.0}),
        (LENET_5, 0.02, {"conv1": 0.2779, "conv2": 0.0143, "fc1": 0.0146, "fc2": 0.4572}),
        (RESNET_20, 0.10, {"conv1": 1.0, "stage1.3": 0.3026, "stage2.0": 0.2150, "stage2.1": 0.1394, "fc": 1.0}),
        (RESNET_20, 0.05, {"conv1": 0.5174, "stage1.0": 0.1475, "stage3.0": 0.0495, "stage3.5": 0.0325, "fc": 1.0}),
        (RESNET_20, 0.02, {"conv1": 0.2066, "stage2.0": 0.0418, "stage3.1": 0.0130, "fc": 0.4129}),
    ],
)
def test_kernel_densities_are_those_of_the_authors_code(
    shapes: dict[str, tuple[int, ...]], density: float, wanted: dict[str, float]
) -> None:
    """Values printed by the published formula, to four digits."""
    found = scaled_densities(shapes, density, kernel)
    assert {n: round(found[n], 4) for n in wanted} == wanted


def test_erdos_renyi_ignores_the_kernel() -> None:
    """By hand: raw densities 3/2 and 4/4 before scaling, 4 and 8 weights, 6 nonzeros: eps = 6 / (6 + 8)."""
    shapes = {"a": (1, 2, 2), "b": (2, 2, 2)}
    pools = ALLOCATIONS["er"](shapes, 6)
    assert [p.nonzeros for p in pools] == [3, 3]  # 2.571 and 3.429: the larger remainder is rounded up
    assert [p.nonzeros for p in ALLOCATIONS["uniform"](shapes, 6)] == [2, 4]


@given(
    shapes=st.lists(st.lists(st.integers(1, 9), min_size=2, max_size=4), min_size=1, max_size=5),
    share=st.floats(0, 1),
    name=st.sampled_from(sorted(ALLOCATIONS)),
)
def test_the_total_is_exact_and_no_layer_overflows(shapes: list[list[int]], share: float, name: str) -> None:
    named = {str(i): tuple(s) for i, s in enumerate(shapes)}
    size = sum(math.prod(s) for s in shapes)
    k = max(1, round(share * size))
    pools = ALLOCATIONS[name](named, k)
    assert sum(p.nonzeros for p in pools) == k
    assert all(0 <= p.nonzeros <= p.size == sum(math.prod(named[n]) for n in p.names) for p in pools)
    assert sorted(n for p in pools for n in p.names) == sorted(named)


def test_densities_that_miss_the_total_are_refused() -> None:
    with pytest.raises(ValueError, match="densities give about 4 nonzeros where 7 are asked for"):
        exactly({"a": (2, 4)}, {"a": 0.5}, 7)


def test_an_unknown_allocation_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown allocation 'erdos'.*erk"):
        allocation("erdos")

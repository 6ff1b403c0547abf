"""The model and its forms: one function."""

import numpy as np
import pytest
import torch

from sparelu.recover.exact.model.relu_model import ReluModel, Support
from sparelu.recover.exact.steps.backward import truncate_to_budget
from tests.recover.exact.models import random_model, rows_of, tensor


def _values(model: ReluModel) -> torch.Tensor:
    rng = np.random.default_rng(0)
    x, _ = rows_of(rng, model, 200).tensors(torch.float64)
    return model(x)


@pytest.mark.parametrize("outs", [1, 3])
def test_normal_form_and_network_are_the_function(outs: int) -> None:
    rng = np.random.default_rng(1)
    model = random_model(rng, outs=outs, oriented=True)
    weight = torch.cat([model.weight * 3, tensor(np.eye(6)[-1:]) * 0.7, tensor(np.zeros((1, 6)))])
    outputs = torch.cat([model.outputs * 2, model.outputs[:2]])
    wide = ReluModel(weight, torch.cat([model.orientation, tensor([1.0, 0.0])]), outputs, model.affine)
    normal = wide.normalise()
    assert len(normal) == len(model)
    torch.testing.assert_close(normal.outputs.abs().amax(1), torch.ones(len(model)).double())
    torch.testing.assert_close(_values(normal), _values(wide))
    x = np.random.default_rng(2).standard_normal((50, 5))
    full = tensor(np.column_stack([x, np.ones(50)]))
    np.testing.assert_allclose(normal.network()(x).numpy(), wide(full).numpy(), atol=1e-12)


def test_a_combination_is_that_of_the_outputs() -> None:
    model = random_model(np.random.default_rng(3), outs=3)
    mix = tensor([0.5, -1.0, 2.0])
    single = model.combine(mix)
    assert bool((single.outputs.abs() == 1).all())
    torch.testing.assert_close(_values(single)[:, 0], _values(model) @ mix)


def test_other_units_are_the_same_function() -> None:
    model = random_model(np.random.default_rng(4), outs=2)
    scale = tensor([2.0, 0.1, 30.0, 1.0, 5.0, 1.0])
    x = tensor(np.column_stack([np.random.default_rng(5).standard_normal((40, 5)), np.ones(40)]))
    torch.testing.assert_close(model.scale_inputs(scale)(x * scale), model(x))
    torch.testing.assert_close(model.scale_outputs(tensor([3.0, 0.5]))(x), model(x) * tensor([3.0, 0.5]))


@pytest.mark.parametrize("outs", [1, 3])
def test_numbers_are_counted_without_the_scale_of_a_hinge(outs: int) -> None:
    model = random_model(np.random.default_rng(6), outs=outs)
    free = int((model.weight != 0).sum()) + int((model.outputs != 0).sum()) - len(model)
    assert Support.of(model).size == free
    own = int((model.weight[:, :-1] != 0).sum())
    assert model.nonzeros == (own if outs == 1 else own + int((model.outputs != 0).sum()))


@pytest.mark.parametrize("outs", [1, 3])
def test_what_a_budget_does_not_hold_is_cut_by_size(outs: int) -> None:
    model = random_model(np.random.default_rng(7), 5, outs=outs)
    assert len(truncate_to_budget(model, None, 2)) == 2
    for allowed in (0, 3, 6):
        assert truncate_to_budget(model, allowed, 5).nonzeros <= allowed
    assert truncate_to_budget(model, 1000, 5) is model
    kept = truncate_to_budget(model, None, 2).length.norm(dim=1)
    assert float(kept.min()) >= float(model.length.norm(dim=1).sort(descending=True).values[2])

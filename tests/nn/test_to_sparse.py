"""Conversion to compressed rows: same outputs, the quicker form chosen, and a warning that says so."""

import warnings

import pytest
import torch
from torch import nn

from sparelu.nn.sparse_linear import SparseLinear
from sparelu.nn.to_sparse import SlowerSparseWarning, to_sparse


def masked(inputs: int, outputs: int, density: float) -> nn.Linear:
    linear = nn.Linear(inputs, outputs)
    with torch.no_grad():
        linear.weight.mul_(torch.rand(outputs, inputs) < density)
    return linear


def test_the_quicker_form_is_taken() -> None:
    """A large layer of density 0.005 has a tenfold margin; a full one has the same margin the other way."""
    torch.manual_seed(0)
    model = nn.Sequential(masked(1500, 1500, 0.005), nn.ReLU(), nn.Linear(1500, 400), nn.ReLU())
    with pytest.warns(SlowerSparseWarning, match=r"2 of shape \(400, 1500\) with density 1 stays dense"):
        sparse, timings = to_sparse(model)
    assert isinstance(sparse[0], SparseLinear)
    assert type(sparse[2]) is nn.Linear
    assert [t.sparse for t in timings] == [True, False]
    assert timings[0].speedup > 1 > timings[1].speedup
    assert timings[0].density == pytest.approx(float((model[0].weight != 0).float().mean()))
    x = torch.randn(7, 1500)
    torch.testing.assert_close(sparse(x), model(x), rtol=1e-4, atol=1e-5)
    assert type(model[0]) is nn.Linear, "the model given is not changed"


def test_force() -> None:
    model = nn.Linear(30, 20)
    with pytest.warns(SlowerSparseWarning, match=r"the layer of shape \(20, 30\) with density 1 was converted"):
        sparse, timings = to_sparse(model, force=True)
    assert isinstance(sparse, SparseLinear)
    assert timings[0].sparse
    x = torch.randn(4, 30)
    torch.testing.assert_close(sparse(x), model(x), rtol=1e-5, atol=1e-6)


def test_what_stays_dense() -> None:
    """Convolutions, subclasses (attention reads their weight), tied weights; a layer used twice is converted once."""

    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv1d(1, 1, 1)
            self.attention = nn.MultiheadAttention(4, 1)
            self.tied, self.other = nn.Linear(4, 4), nn.Linear(4, 4)
            self.other.weight = self.tied.weight
            self.twice = nn.ModuleList([nn.Linear(4, 4)] * 2)

    model = Odd().eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SlowerSparseWarning)
        sparse, timings = to_sparse(model, force=True)
    assert [t.name for t in timings] == ["twice.0"]
    assert sparse.twice[0] is sparse.twice[1]
    assert isinstance(sparse.twice[0], SparseLinear)
    assert not sparse.twice[0].training
    assert sparse.other.weight is sparse.tied.weight

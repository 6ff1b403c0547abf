"""Wanda and SparseGPT against hand-computed cases, Optimal Brain Surgeon, and each other."""

import pytest
import torch
from torch import Tensor, nn

from sparelu.train.oneshot import by_row, patches, sparsegpt, wanda


def correlated(rows: int, columns: int) -> Tensor:
    g = torch.Generator().manual_seed(0)
    mix = torch.randn(columns, columns, generator=g, dtype=torch.float64)
    scale = torch.logspace(-1, 1, columns, dtype=torch.float64)
    return torch.randn(rows, columns, generator=g, dtype=torch.float64) @ mix * scale


def layer(outputs: int, inputs: int) -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(inputs, outputs, bias=False).double()


def test_wanda_weighs_by_the_norm_of_the_input() -> None:
    """Norms 10, 1 and 0.5 times |1|, |-2|, |3|: 10, 2 and 1.5. Magnitude would drop the first."""
    model = nn.Linear(3, 1, bias=False)
    model.weight.data = torch.tensor([[1.0, -2.0, 3.0]])
    x = torch.tensor([[6.0, 1.0, 0.0], [8.0, 0.0, -0.5]])
    masks = wanda(model, lambda m: m(x), nonzeros=2)
    assert masks["weight"].tolist() == [[True, True, False]]
    assert model.weight.tolist() == [[1, -2, 0]]
    assert model.training


def test_rows_share_the_budget_to_one() -> None:
    """5 of 2 x 4: two each, and the fifth to the row whose third score is larger."""
    score = torch.tensor([[4.0, 3, 2, 1], [40.0, 30, 20, 10]])
    assert by_row(score, 5).tolist() == [[True, True, False, False], [True, True, True, False]]
    assert by_row(score, 8).all()
    assert not by_row(score, 0).any()


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("padding", [0, 2, "same"])
@pytest.mark.parametrize("kind", [nn.Conv1d, nn.Conv2d, nn.Conv3d])
def test_a_convolution_is_a_product_with_its_patches(kind: type, padding: int | str, groups: int) -> None:
    torch.manual_seed(0)
    stride = 1 if padding == "same" else 2
    mode = "zeros" if groups == 1 else "reflect"
    conv = kind(4, 6, 3, stride, padding, 2, groups, False, mode).double()
    dimensions = len(conv.kernel_size)
    x = torch.randn(2, 4, *([7] * dimensions), dtype=torch.float64)
    weight = conv.weight.reshape(groups, 6 // groups, -1)
    product = torch.einsum("ngi,goi->ngo", patches(conv, x), weight).flatten(1)
    expected = conv(x).movedim(1, -1).reshape(-1, 6)
    assert torch.allclose(product, expected)


def test_the_first_column_moves_the_rest_as_optimal_brain_surgeon() -> None:
    """One weight goes, in column 0: dw = -(w_0 / [H^-1]_00) H^-1 e_0 with H = X'X + 0.01 mean(diag) I."""
    x = correlated(50, 6)
    model = layer(1, 6)
    model.weight.data[0, 0] = 1e-3 * model.weight.data[0, 0].sign()
    h = x.T @ x
    h += 0.01 * h.diagonal().mean() * torch.eye(6, dtype=torch.float64)
    inverse = torch.linalg.inv(h)
    w = model.weight.detach()[0].clone()
    wanted = w - w[0] / inverse[0, 0] * inverse[:, 0]
    masks = sparsegpt(model, lambda m: m(x), nonzeros=5)
    assert masks["weight"].tolist() == [[False, True, True, True, True, True]]
    assert torch.allclose(model.weight.detach()[0, 1:], wanted[1:], rtol=1e-9, atol=0)
    assert model.weight[0, 0] == 0


@pytest.mark.parametrize("block", [1, 5, 128])
def test_every_column_follows_optimal_brain_surgeon(block: int) -> None:
    """With the masks given: each dropped weight in turn, those before it frozen, by an inverse of what is left of H."""
    x = correlated(60, 12)
    model = layer(4, 12)
    w = model.weight.detach().clone()
    h = x.T @ x
    h += 0.01 * h.diagonal().mean() * torch.eye(12, dtype=torch.float64)
    mask = sparsegpt(model, lambda m: m(x), density=0.5, block=block)["weight"]
    for c in range(12):
        inverse = torch.linalg.inv(h[c:, c:])
        for row in torch.nonzero(~mask[:, c])[:, 0]:
            w[row, c:] -= w[row, c] / inverse[0, 0] * inverse[:, 0]
            w[row, c] = 0
    assert int(mask.sum()) == 24
    assert torch.allclose(model.weight.detach(), w, rtol=1e-8, atol=1e-12)


def test_what_knows_more_errs_less() -> None:
    """Squared error of the outputs on the calibration rows, all with 192 of 384 weights."""
    x = correlated(400, 24)
    errors = []
    for method in (sparsegpt, wanda, largest_weights):
        model = layer(16, 24)
        wanted = model(x).detach()
        mask = method(model, lambda m: m(x), density=0.5)["weight"]
        assert int(mask.sum()) == 192
        assert model.weight[~mask].count_nonzero() == 0
        errors.append(float((model(x) - wanted).square().sum().detach()))
    assert errors[0] < errors[1] < errors[2]


def largest_weights(model: nn.Module, run: object, density: float) -> dict[str, Tensor]:
    size = model.weight.detach().abs()
    mask = size > size.quantile(1 - density)
    model.weight.data *= mask
    return {"weight": mask}


def test_layers_are_pruned_in_the_order_they_run() -> None:
    """The second layer is calibrated on what the pruned first one gives: its dead inputs keep no weight."""

    class Backwards(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.second, self.first = nn.Linear(2, 4, bias=False), nn.Linear(3, 2, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            return self.second(self.first(x))

    model = Backwards()
    model.first.weight.data = torch.tensor([[5.0, 4.0, 3.0], [0.1, 0.1, 0.1]])
    masks = wanda(
        model,
        lambda m: m(torch.ones(4, 3)),
        nonzeros=7,
        allocation="uniform",
    )
    assert {n: int(m.sum()) for n, m in masks.items()} == {"second.weight": 4, "first.weight": 3}
    assert masks["second.weight"][:, 0].all()


@pytest.mark.parametrize("method", [wanda, sparsegpt])
def test_networks_of_convolutions(method: object) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 6, 3, groups=2), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 16, 5)
    )
    x = torch.randn(20, 3, 8, 8)
    masks = method(model, lambda m: m(x), density=0.37, allocation="erk")
    size = sum(m.numel() for m in masks.values())
    assert sum(int(m.sum()) for m in masks.values()) == round(0.37 * size)
    for name, mask in masks.items():
        assert model.get_parameter(name).detach()[~mask].count_nonzero() == 0
    assert torch.isfinite(model(x)).all()


def test_bad_input() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    x = torch.ones(2, 3)
    with pytest.raises(ValueError, match="do not compare here: choose allocation uniform"):
        wanda(model, lambda m: m(x), density=0.5, allocation="global")
    with pytest.raises(ValueError, match="rows do not reach 1.weight"):
        wanda(model, lambda m: m[0](x), density=0.5)
    with pytest.raises(ValueError, match="knows Linear and Conv layers, not ConvTranspose1d"):
        wanda(nn.ConvTranspose1d(2, 2, 2), lambda m: m(torch.ones(1, 2, 3)), density=0.5)

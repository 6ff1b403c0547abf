"""Wanda and SparseGPT against hand-computed cases, Optimal Brain Surgeon, and each other."""

import copy

import pytest
import torch
from torch import Tensor, nn

from sparelu.train.calibration import patches, to_matrix, to_weight
from sparelu.train.oneshot import by_row, least_squares_refit, sparsegpt, wanda
from sparelu.train.sparsifier.prunable import prunable_weights


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
    with pytest.raises(ValueError, match="knows Linear, Conv, ConvTranspose and MultiheadAttention, not LSTM"):
        wanda(nn.LSTM(4, 3), lambda m: m(torch.ones(2, 4)), density=0.5)


def squares(model: nn.Module, dense: nn.Module, x: Tensor) -> float:
    with torch.no_grad():
        return float((model(x) - dense(x)).square().sum())


def test_a_refit_is_least_squares_row_by_row() -> None:
    """Against torch's least squares on the inputs themselves; with a singular matrix the change is the smallest."""
    x, dense = correlated(60, 8), layer(5, 8)
    mask = torch.rand(5, 8, generator=torch.Generator().manual_seed(1)) < 0.5
    mask[0], mask[1] = True, False
    model = copy.deepcopy(dense)
    masks = least_squares_refit(model, lambda m: m(x), masks={"weight": mask})
    assert torch.equal(masks["weight"], mask)
    for row, kept, before in zip(model.weight.detach(), mask, dense.weight.detach(), strict=True):
        wanted = torch.zeros(8, dtype=torch.float64)
        if kept.any():
            wanted[kept] = torch.linalg.lstsq(x[:, kept], x @ before).solution
        torch.testing.assert_close(row, wanted, rtol=1e-6, atol=1e-8)
    few = x[:3]
    short = copy.deepcopy(dense)
    least_squares_refit(short, lambda m: m(few), masks={"weight": mask})
    assert squares(short, dense, few) <= squares(model, dense, few) + 1e-12
    assert bool(torch.isfinite(short.weight).all())


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("kind", [nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d])
def test_a_transposed_convolution_is_a_product_with_its_patches(kind: type, groups: int) -> None:
    torch.manual_seed(0)
    conv = kind(4, 6, 3, stride=2, padding=1, output_padding=1, dilation=2, groups=groups, bias=False).double()
    x = torch.randn(2, 4, *([4] * len(conv.kernel_size)), dtype=torch.float64)
    part = prunable_weights(conv)["weight"]
    matrix = to_matrix(part, conv.weight.detach())
    product = torch.einsum("ngi,goi->ngo", patches(conv, x), matrix).flatten(1)
    torch.testing.assert_close(product, conv(x).detach().movedim(1, -1).reshape(-1, 6))
    assert torch.equal(to_weight(part, matrix), conv.weight)


def test_the_refit_beats_pruning_alone_on_every_kind_of_layer() -> None:
    """Transposed convolutions and attention too, whose projections are read where torch hides them."""
    torch.manual_seed(0)
    encoder = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True).double()
    cases = {
        "linear": (layer(12, 16), correlated(200, 16)),
        "transposed": (nn.ConvTranspose2d(6, 5, 3, stride=2).double(), torch.randn(8, 6, 5, 5, dtype=torch.float64)),
        "encoder": (encoder, torch.randn(16, 7, 8, dtype=torch.float64)),
    }
    for name, (dense, x) in cases.items():
        dense.eval()
        errors = {}
        masks: dict[str, Tensor] = {}
        for how in ("wanda", "sparsegpt", "refit"):
            model = copy.deepcopy(dense)
            run = lambda m, x=x: m(x)  # noqa: E731
            if how == "refit":
                masks = least_squares_refit(model, run, masks=masks)
            elif how == "sparsegpt":
                assert sparsegpt(model, run, density=0.5).keys() == masks.keys()
            else:
                masks = wanda(model, run, density=0.5)
            left = sum(int(model.get_parameter(n).count_nonzero()) for n in masks)
            assert left == round(0.5 * sum(m.numel() for m in masks.values()))
            errors[how] = squares(model, dense, x)
        assert errors["refit"] < errors["wanda"], name


def test_attention_is_read_where_it_is() -> None:
    """With masks that drop one input of each projection, against least squares on inputs computed by hand."""
    torch.manual_seed(0)
    dense = nn.MultiheadAttention(4, 1, bias=False, batch_first=True).double()
    x = torch.randn(9, 5, 4, dtype=torch.float64)
    mask = torch.ones(4, 4, dtype=torch.bool)
    mask[:, 0] = False
    masks = {"in_proj_weight": torch.ones(12, 4, dtype=torch.bool), "out_proj.weight": mask}
    model = copy.deepcopy(dense)
    least_squares_refit(model, lambda m: m(x, x, x), masks=masks)
    q, k, v = (x @ w.t() for w in dense.in_proj_weight.detach().chunk(3))
    heads = (torch.softmax(q @ k.transpose(1, 2) / 2, -1) @ v).reshape(-1, 4)
    wanted = torch.linalg.lstsq(heads[:, 1:], heads @ dense.out_proj.weight.detach().t()).solution.t()
    torch.testing.assert_close(model.out_proj.weight.detach()[:, 1:], wanted, rtol=1e-7, atol=1e-9)
    with pytest.raises(ValueError, match="exactly one of density, nonzeros and masks"):
        least_squares_refit(model, lambda m: m(x, x, x), masks=masks, density=0.5)
    with pytest.raises(ValueError, match=r"not LSTM: leave it out with `layers`"):
        least_squares_refit(nn.LSTM(4, 3).double(), lambda m: m(x), density=0.5)

"""Which weights of a stranger's model are pruned, and what happens when layers stop training."""

import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from sparelu.train.dynamic import MEST, SET, SNFS, RigL
from sparelu.train.sparsifier.prunable import prunable_weights
from sparelu.train.sparsifier.sparsifier import Sparsifier
from sparelu.train.sparsifier.update_schedules import Exploration
from sparelu.train.static import GradualMagnitude, Static

OFTEN = Exploration(every=2, until=1.0)


def exact(sparsifier: Sparsifier) -> bool:
    parts = sparsifier.parts.values()
    return all(p.weight.detach()[~p.mask].count_nonzero() == 0 for p in parts)


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)


def train(sparsifier: Sparsifier, x: Tensor, steps: int) -> None:
    for _ in range(steps):
        sparsifier.optimizer.zero_grad()
        out = sparsifier.model(x)
        (out[0] if isinstance(out, tuple) else out).square().mean().backward()
        sparsifier.step()
        assert exact(sparsifier)


@pytest.mark.parametrize(
    ("make", "shape", "names"),
    [
        (
            lambda: nn.TransformerEncoderLayer(8, 2, 12, batch_first=True),
            (3, 4, 8),
            ["self_attn.in_proj_weight", "self_attn.out_proj.weight", "linear1.weight", "linear2.weight"],
        ),
        (lambda: nn.LSTM(8, 5, num_layers=2), (4, 2, 8), None),
        (lambda: nn.GRU(8, 5, bidirectional=True), (4, 2, 8), None),
        (lambda: nn.LSTMCell(8, 5), (4, 8), ["weight_ih", "weight_hh"]),
    ],
    ids=["attention", "LSTM", "GRU", "cell"],
)
def test_attention_and_recurrent_layers_train_within_their_budget(
    make: Callable[[], nn.Module], shape: tuple[int, ...], names: list[str] | None
) -> None:
    """Every matrix of these layers is pruned: biases and normalisations have one dimension."""
    torch.manual_seed(0)
    model = make()
    sparsifier = RigL(model, sgd(model), density=0.25, total_steps=20, plan=OFTEN)
    matrices = [n for n, p in model.named_parameters() if p.ndim == 2]
    assert list(sparsifier.parts) == (names or matrices)
    assert sparsifier.size == sum(model.get_parameter(n).numel() for n in matrices)
    start = sparsifier.masks
    train(sparsifier, torch.randn(shape), 6)
    assert sparsifier.nonzeros == round(0.25 * sparsifier.size)
    assert any(not torch.equal(m, start[n]) for n, m in sparsifier.masks.items())


def test_attention_with_other_key_sizes() -> None:
    model = nn.MultiheadAttention(8, 2, kdim=4, vdim=6)
    assert list(prunable_weights(model)) == ["q_proj_weight", "k_proj_weight", "v_proj_weight", "out_proj.weight"]


def test_parallel_models_have_the_names_of_the_module_inside() -> None:
    assert list(prunable_weights(nn.DataParallel(nn.Sequential(nn.Linear(2, 2))))) == ["0.weight"]


def test_layers_without_weights_are_left_out() -> None:
    model = nn.ModuleList([nn.Linear(4, 3), nn.Linear(4, 1)])
    model[1].weight = nn.Parameter(torch.empty(0, 4))
    assert list(prunable_weights(model)) == ["0.weight"]


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.utils.parametrizations.weight_norm(nn.LSTM(2, 2), "weight_hh_l0"), r"the weight_hh_l0 of the model itself"),
        (nn.Sequential(nn.Linear(2, 2, device="meta")), r"0 \(Linear\) is torch.float32 on meta"),
        (nn.Sequential(nn.Linear(2, 2, dtype=torch.complex128)), "complex128"),
    ],
)
def test_weights_that_cannot_be_masked_are_refused(model: nn.Module, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Static(model, sgd(nn.Linear(1, 1)), density=0.5)


def test_arguments_of_the_wrong_kind_are_named() -> None:
    """In a process without the type checker of the tests, as users have it."""
    script = """
import torch
from sparelu.train import Static
m = torch.nn.Linear(2, 2); o = torch.optim.SGD(m.parameters())
s = Static(m, o, density=0.5)
for call in (
    lambda: Static(o, m, density=0.5), lambda: Static(m, m, density=0.5), lambda: Static(m, o, density="0.5"),
    lambda: Static(m, o, nonzeros=1.5), lambda: s.load_state_dict(None),
):
    try: call()
    except ValueError as e: print(e)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    wanted = ["must be a torch.nn.Module, got SGD", "must be a torch.optim.Optimizer, got Linear"]
    wanted += ["density must be a number, got '0.5'", "nonzeros must be a whole number, got 1.5", "no state of a spars"]
    for line, text in zip(done.stdout.splitlines(), wanted, strict=True):
        assert text in line


def test_a_weight_that_changes_its_shape_is_refused() -> None:
    model = nn.Sequential(nn.Linear(3, 4))
    sparsifier = Static(model, sgd(model), density=0.5)
    model[0].weight.data, model[0].bias.data = torch.ones(2, 3), torch.ones(2)
    model(torch.ones(1, 3)).sum().backward()
    with pytest.raises(ValueError, match=r"0.weight had the shape \(4, 3\) .* has \(2, 3\) now"):
        sparsifier.step()


def test_sparse_gradients_are_refused_by_name() -> None:
    model = nn.Sequential(nn.Embedding(9, 4, sparse=True))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    sparsifier = Static(model, optimizer, density=0.5, layers=lambda name, module: isinstance(module, nn.Embedding))
    model(torch.tensor([1, 2])).sum().backward()
    with pytest.raises(ValueError, match=r"0.weight has a gradient .* torch.sparse_coo"):
        sparsifier.step()


@pytest.mark.parametrize("width", [torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64, torch.complex64])
def test_tensors_of_any_width_are_cleared_and_lifted(dtype: torch.dtype, width: torch.dtype) -> None:
    """NaN and infinity go too; what lives keeps its bits. A slot may be of another width than its weight."""
    part = next(iter(prunable_weights(nn.Linear(37, 5, dtype=width)).values()))
    mask = torch.rand(5, 37, generator=torch.Generator().manual_seed(0)) < 0.4
    part.keep(mask)
    assert torch.equal(part.mask, mask)
    assert part.active == int(mask.sum())
    t = torch.full((5, 37), -1.5, dtype=dtype)
    t[~mask] = torch.tensor([torch.nan, torch.inf, 2.0]).repeat(185)[: int((~mask).sum())].to(dtype)
    part.clear([t])
    assert torch.equal(t, torch.where(mask, torch.tensor(-1.5, dtype=dtype), torch.tensor(0, dtype=dtype)))
    if not dtype.is_complex:
        part.lift([t])
        assert torch.equal(t, torch.where(mask, torch.tensor(-1.5, dtype=dtype), torch.tensor(1, dtype=dtype)))


class Branches(nn.Module):
    """The second layer is used on request."""

    def __init__(self) -> None:
        super().__init__()
        self.always, self.sometimes = nn.Linear(8, 8), nn.Linear(8, 8)
        self.both = True

    def forward(self, x: Tensor) -> Tensor:
        return self.always(x) + (self.sometimes(x) if self.both else 0)


@pytest.mark.parametrize("how", ["frozen", "unused"])
@pytest.mark.parametrize("kind", [SET, RigL, SNFS, MEST])
def test_layers_that_rest_keep_their_support(kind: Callable[..., Sparsifier], how: str) -> None:
    """What would be grown there would stay 0, so that every visit would cost the layer weights."""
    torch.manual_seed(0)
    model = Branches()
    sparsifier = kind(model, sgd(model), density=0.3, total_steps=99, plan=OFTEN)
    train(sparsifier, torch.randn(16, 8), 5)
    model.both = how == "frozen"
    model.sometimes.requires_grad_(how != "frozen")
    before, values = sparsifier.masks, model.sometimes.weight.detach().clone()
    train(sparsifier, torch.randn(16, 8), 4)
    assert torch.equal(sparsifier.masks["sometimes.weight"], before["sometimes.weight"])
    assert torch.equal(model.sometimes.weight, values)
    assert not torch.equal(sparsifier.masks["always.weight"], before["always.weight"])
    assert sparsifier.nonzeros == round(0.3 * 128)
    model.both = True
    model.sometimes.requires_grad_(True)
    train(sparsifier, torch.randn(16, 8), 4)
    assert not torch.equal(sparsifier.masks["sometimes.weight"], before["sometimes.weight"])


def test_a_pool_of_several_layers_rests_as_one() -> None:
    model = Branches()
    sparsifier = RigL(model, sgd(model), density=0.3, total_steps=99, plan=OFTEN, allocation="global")
    before, model.both = sparsifier.masks, False
    train(sparsifier, torch.randn(16, 8), 5)
    assert all(torch.equal(m, before[n]) for n, m in sparsifier.masks.items())
    assert sparsifier.nonzeros == round(0.3 * 128)


def test_frozen_layers_are_pruned_gradually_all_the_same() -> None:
    model = Branches()
    sparsifier = GradualMagnitude(model, sgd(model), density=0.3, total_steps=8)
    model.sometimes.requires_grad_(False)
    train(sparsifier, torch.randn(16, 8), 8)
    assert sparsifier.nonzeros == round(0.3 * 128)


def test_curvature_of_another_support_is_forgotten() -> None:
    """L-BFGS would step along directions that lead off the support."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 12), nn.Tanh(), nn.Linear(12, 3))
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=4)
    sparsifier = SET(model, optimizer, density=0.3, total_steps=99, plan=Exploration(every=3, until=1.0))
    x, y = torch.randn(64, 8), torch.randn(64, 3)

    def closure() -> Tensor:
        optimizer.zero_grad()
        assert exact(sparsifier), "a step left the support"
        loss = (model(x) - y).square().mean()
        loss.backward()
        return loss.detach()

    losses = [float(sparsifier.step(closure)) for _ in range(12)]
    assert exact(sparsifier)
    assert sparsifier.updates > 0, "the support must have moved, or this shows nothing"
    assert losses[-1] < losses[0]

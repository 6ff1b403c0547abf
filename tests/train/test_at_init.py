"""SNIP, GraSP and SynFlow against finite differences and their laws; the checks beside them."""

import copy

import pytest
import torch
from torch import Tensor, nn

from sparelu.train.analysis.pags import as_in
from sparelu.train.at_init import grasp, reinitialised, sanity_checks, shuffled, snip, snip_scores, synflow
from sparelu.train.sparsifier.prunable import LayerCollapseWarning, prunable_weights
from sparelu.train.static import Static

STEP = 1e-5


def problem() -> tuple[nn.Module, Tensor, Tensor]:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    return model, torch.randn(20, 4, dtype=torch.float64), torch.randint(0, 3, (20,))


def derivatives(model: nn.Module, value: object) -> dict[str, Tensor]:
    """Of value(model) in a factor c at 1 on each weight, by central differences."""
    found = {}
    for name, weight in model.named_parameters():
        if weight.ndim < 2:
            continue
        slopes = torch.zeros_like(weight)
        for i in range(weight.numel()):
            w = weight.data.view(-1)
            old, ends = float(w[i]), []
            for sign in (1, -1):
                w[i] = old * (1 + sign * STEP)
                ends.append(float(value(model)))
            w[i] = old
            slopes.view(-1)[i] = (ends[0] - ends[1]) / (2 * STEP)
        found[name] = slopes.detach()
    return found


def top(scores: dict[str, Tensor], k: int) -> dict[str, Tensor]:
    limit = torch.cat([s.flatten() for s in scores.values()]).sort(descending=True).values[k - 1]
    return {n: s >= limit for n, s in scores.items()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[n], b[n]) for n in a)


def test_snip_keeps_what_changes_the_loss_most() -> None:
    model, x, y = problem()

    def loss(m: nn.Module) -> Tensor:
        return nn.functional.cross_entropy(m(x), y)

    slopes = derivatives(model, lambda m: loss(m).detach())
    before = copy.deepcopy(model.state_dict())
    masks = snip(model, loss, nonzeros=10)
    assert same(masks, top({n: s.abs() for n, s in slopes.items()}, 10))
    assert same(dict(model.state_dict()), before)
    assert all(p.grad is None for p in model.parameters())


def test_grasp_removes_what_raises_the_gradient_norm() -> None:
    """The derivative of the squared gradient norm over the pruned weights, by differences, sign included."""
    model, x, y = problem()

    def loss(m: nn.Module) -> Tensor:
        return nn.functional.cross_entropy(m(x), y)

    def flow(m: nn.Module) -> float:
        gradients = torch.autograd.grad(loss(m), [m[0].weight, m[2].weight])
        return float(sum(g.square().sum() for g in gradients))

    assert same(grasp(model, loss, nonzeros=14), top(derivatives(model, flow), 14))


def test_grasp_of_attention() -> None:
    """The attention that torch takes by default has no second derivative."""
    torch.manual_seed(0)
    model = nn.MultiheadAttention(4, 2, batch_first=True).double()
    x = torch.randn(2, 3, 4, dtype=torch.float64)

    def loss(m: nn.Module) -> Tensor:
        return m(x, x, x, need_weights=False)[0].square().sum()

    def flow(m: nn.Module) -> float:
        gradients = torch.autograd.grad(loss(m), [m.in_proj_weight, m.out_proj.weight])
        return float(sum(g.square().sum() for g in gradients))

    assert same(grasp(model, loss, nonzeros=20), top(derivatives(model, flow), 20))


def test_iterative_snip_scores_the_pruned_model_again() -> None:
    """Two rounds by hand: 35 to round(35 (7/35)^0.5) = 16 weights, then 7 of those by the slopes of what is left."""
    model, x, y = problem()

    def loss(m: nn.Module) -> Tensor:
        return nn.functional.cross_entropy(m(x), y)

    first = top({n: s.abs() for n, s in derivatives(model, lambda m: loss(m).detach()).items()}, 16)
    pruned = copy.deepcopy(model)
    for name, mask in first.items():
        pruned.get_parameter(name).data.mul_(mask)
    second = top({n: s.abs() for n, s in derivatives(pruned, lambda m: loss(m).detach()).items()}, 7)
    assert same(snip(model, loss, nonzeros=7, rounds=2), second)
    assert not same(second, snip(model, loss, nonzeros=7))


def test_synflow_conserves_flow_from_layer_to_layer() -> None:
    """Without biases the scores of every layer add up to R = 1' |W3| |W2| |W1| 1."""
    torch.manual_seed(0)
    widths = [(7, 9), (9, 8), (8, 3)]
    model = nn.Sequential(*[m for a, b in widths for m in (nn.Linear(a, b, bias=False), nn.ReLU())])
    positive = copy.deepcopy(model).double()
    for p in positive.parameters():
        p.data.abs_()
    ones = torch.ones(1, 7, dtype=torch.float64)
    scores = snip_scores(positive, prunable_weights(positive), lambda m: m(ones).sum())
    flow = ones[0]
    for weight in model.parameters():
        flow = weight.detach().double().abs() @ flow
    for score in scores.values():
        assert float(score.sum()) == pytest.approx(float(flow.sum()), rel=1e-6)


def test_synflow_leaves_no_layer_empty_where_one_cut_does() -> None:
    """99.9% of six layers; the scores of one cut are far smaller in one layer, which it empties."""
    torch.manual_seed(0)
    sizes = [(100, 400), (400, 60), (60, 400), (400, 60), (60, 400), (400, 10)]
    model = nn.Sequential(*[m for a, b in sizes for m in (nn.Linear(a, b, bias=False), nn.ReLU())])
    masks = synflow(model, (100,), density=0.001)
    assert all(m.any() for m in masks.values())
    assert sum(int(m.sum()) for m in masks.values()) == round(0.001 * sum(a * b for a, b in sizes))
    live = torch.ones(100)
    for name, mask in masks.items():
        live = (mask.float() @ live > 0).float()
        assert live.any(), name
    two = nn.Sequential(nn.Linear(20, 20), nn.Linear(20, 20))
    two[1].weight.data *= 1e-6
    with pytest.warns(LayerCollapseWarning, match=r"1.weight has no weight left of 400"):
        snip(two, lambda m: sum(p.square().sum() for p in m.parameters()), density=0.1)


def test_synflow_needs_no_data_and_takes_normalised_convolutions() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 4))
    masks = synflow(model, (3, 8, 8), nonzeros=100, rounds=5)
    assert sum(int(m.sum()) for m in masks.values()) == 100
    assert model.training
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    assert Static(model, optimizer, masks=masks).nonzeros == 100


def test_the_checks_change_what_they_say_and_nothing_else() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 30), nn.Linear(30, 5))
    masks = {"0.weight": model[0].weight.detach() > 0.1, "1.weight": model[1].weight.detach() > 0.1}
    g = torch.Generator().manual_seed(0)
    mixed = shuffled(masks, g)
    assert {n: int(m.sum()) for n, m in mixed.items()} == {n: int(m.sum()) for n, m in masks.items()}
    assert not same(mixed, masks)
    other = reinitialised(model, g)
    assert torch.equal(other[0].weight.flatten().sort().values, model[0].weight.flatten().sort().values)
    assert not torch.equal(other[0].weight, model[0].weight)
    assert torch.equal(other[0].bias, model[0].bias)


def test_checks_come_out_below_a_choice_that_matters() -> None:
    """What is measured is the sum of the living weights; the choice keeps exactly the positive ones."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 30), nn.Linear(30, 5))
    before = copy.deepcopy(model.state_dict())
    masks = {"0.weight": model[0].weight.detach() > 0, "1.weight": model[1].weight.detach() > 0}
    counts = []

    def train(m: nn.Module, chosen: dict[str, Tensor]) -> float:
        counts.append(sum(int(mask.sum()) for mask in chosen.values()))
        total = float(sum((m.get_parameter(n).detach() * mask).sum() for n, mask in chosen.items()))
        m[0].weight.data.zero_()
        return total

    results = sanity_checks(model, masks, train)
    assert list(results) == ["chosen", "shuffled", "reinitialised", "random"]
    assert all(results["chosen"] > 2 * abs(results[n]) for n in ("shuffled", "reinitialised", "random"))
    assert len(set(counts)) == 1
    assert same(dict(model.state_dict()), before)


@pytest.mark.parametrize("method", ["snip", "grasp", "synflow"])
def test_inverted_masks_keep_what_would_go_first(method: str) -> None:
    """One cut: the smallest scores of each layer, as many as the method keeps there, from slopes by differences."""
    model, x, y = problem()

    def loss(m: nn.Module) -> Tensor:
        return nn.functional.cross_entropy(m(x), y)

    def flow(m: nn.Module) -> float:
        gradients = torch.autograd.grad(loss(m), [m[0].weight, m[2].weight])
        return float(sum(g.square().sum() for g in gradients))

    linear = nn.Sequential(nn.Linear(4, 5, bias=False), nn.Linear(5, 3, bias=False)).double()
    positive = copy.deepcopy(linear)
    for p in positive.parameters():
        p.data.abs_()
    choose, slopes = {
        "snip": (lambda **k: snip(model, loss, **k), derivatives(model, lambda m: loss(m).detach())),
        "grasp": (lambda **k: grasp(model, loss, **k), derivatives(model, flow)),
        "synflow": (
            lambda **k: synflow(linear, (4,), rounds=1, **k),
            derivatives(positive, lambda m: m(torch.ones(1, 4, dtype=torch.float64)).sum().detach()),
        ),
    }[method]
    masks = choose(nonzeros=12)
    inverted = choose(nonzeros=12, invert=True, allocation=as_in(masks))
    for name, mask in masks.items():
        score = slopes[name] if method == "grasp" else slopes[name].abs()
        limit = score.flatten().sort().values[int(mask.sum()) - 1]
        assert torch.equal(inverted[name], score <= limit)


def test_inverted_masks_are_checked_where_they_are_given() -> None:
    model, x, y = problem()
    masks = {"0.weight": model[0].weight.detach() > 0, "2.weight": model[2].weight.detach() > 0}
    inverted = {n: ~m for n, m in masks.items()}

    def train(m: nn.Module, chosen: dict[str, Tensor]) -> float:
        return float(sum((m.get_parameter(n).detach() * mask).sum() for n, mask in chosen.items()))

    results = sanity_checks(model, masks, train, inverted=inverted)
    assert results["inverted"] < 0 < results["chosen"]


def test_bad_input() -> None:
    model, x, y = problem()

    def loss(m: nn.Module) -> Tensor:
        return nn.functional.cross_entropy(m(x), y) * torch.nan

    with pytest.raises(ValueError, match="rounds must be at least 1"):
        snip(model, loss, nonzeros=3, rounds=0)
    with pytest.raises(ValueError, match="scores are NaN"):
        snip(model, loss, nonzeros=3)
    with pytest.raises(ValueError, match="exactly one of density"):
        grasp(model, loss)

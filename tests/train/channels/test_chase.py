"""Chase: counts of weights and channels by hand, one visit by hand, and the removed model against the masked one."""

import copy
import io
import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.datasets import load_digits
from torch import Tensor, nn

from sparelu.train.analysis.convnets import small_conv, small_resnet
from sparelu.train.channels.channel_groups import channel_groups
from sparelu.train.channels.chase import Chase, Removal, SoftBound, mmm, umm
from sparelu.train.dynamic import RigL
from sparelu.train.sparsifier.update_schedules import Exploration, Update
from sparelu.train.static import Static

STEPS = 48
OFTEN, SOON = SoftBound(every=6), Removal(every=6)
NETWORKS = {
    "plain": lambda: small_conv(6, 1),
    "biased": lambda: nn.Sequential(
        *(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 6, 3, groups=1), nn.ReLU()),
        *(nn.MaxPool2d(4), nn.Flatten(), nn.Linear(6 * 4, 12), nn.ReLU(), nn.Linear(12, 10)),
    ),
    "residual": lambda: small_resnet(6, 1),
}
OPTIMIZERS = {
    "SGD": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=1e-2),
    "Adam": lambda p: torch.optim.Adam(p, lr=0.01),
}


def built(network: str = "residual", optimizer: str = "SGD", **choices: Any) -> tuple[Any, Any, Chase]:
    torch.manual_seed(0)
    model = NETWORKS[network]()
    held = OPTIMIZERS[optimizer](model.parameters())
    settings = {"density": 0.3, "total_steps": STEPS, "plan": OFTEN, "removal": SOON, **choices}
    return model, held, Chase(model, held, **settings)


def train(model: nn.Module, optimizer: torch.optim.Optimizer, chase: Chase, steps: int) -> None:
    for _ in range(steps):
        g = torch.Generator().manual_seed(chase.steps)
        x, y = torch.randn(8, 3, 12, 12, generator=g), torch.randint(10, (8,), generator=g)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        chase.step()


def left(chase: Chase) -> int:
    return sum(int((~r).sum()) for r in chase.removed.values())


def test_the_soft_bound_grows_first_and_prunes_later() -> None:
    """The authors' numbers for CIFAR-10: 160 epochs of 500 steps, 5% beyond at first, half of that at epoch 65."""
    plan, total = SoftBound(), 80_000
    assert plan.move(0, total, 1000, 100_000) is plan.move(1500, total, 1000, 100_000) is None
    assert plan.move(1000, total, 1000, 100_000) == Update(1000, int(100_000 * 0.025 * (1 + math.cos(math.pi / 65))))
    assert plan.move(32_500 // 1000 * 1000 + 500, total, 1000, 100_000) is None
    assert SoftBound(every=500).move(32_500, total, 1000, 100_000) == Update(1000, 2500)
    drop = math.ceil(1000 * (0.005 + 0.495 * 0.5 * (1 + math.cos(math.pi * 65 / 80))))
    assert plan.move(65_000, total, 1000, 100_000) == Update(1000 - drop, drop)
    assert SoftBound(every=90_000).move(90_000, 100_000, 1000, 100_000).grow < 1000
    last = SoftBound(every=10, until=1.0).move(90, 100, 50, 1000)
    assert last.keep + last.grow == 50


def test_removals_fall_half_way_between_visits_and_end_exactly() -> None:
    """(t + 500) a multiple of 1000 up to t_f = 65000; the cubic law is at 7/8 half-way; S_c = 0.5 of 800."""
    removal, total = Removal(), 80_000
    when = [t for t in range(total) if removal.left(t, total, 800, 0.5, 500) is not None]
    assert when == [*range(500, 65_000, 1000), 65_000]
    assert removal.left(32_500, total, 800, 0.5, 500) == 800 - 350
    assert removal.left(65_000, total, 800, 0.5, 500) == 400
    assert removal.least(64, 0.5) == 16
    assert removal.least(7, 0.5) == 1


def test_removals_to_the_end_of_the_training_still_end() -> None:
    """The last step is the 99th: what was asked for is gone after it."""
    late = Removal(every=30, until=1.0)
    when = [t for t in range(100) if late.left(t, 100, 40, 0.25, 10) is not None]
    assert when == [20, 50, 80, 99]
    assert late.left(99, 100, 40, 0.25, 10) == 30


def neurons(*first: float) -> nn.Sequential:
    """Linear layers of three inputs, one neuron for each of ``first``, whose weights all have that size; then two."""
    model = nn.Sequential(nn.Linear(3, len(first)), nn.ReLU(), nn.Linear(len(first), 2))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor(first)[:, None].expand(-1, 3))
    return model


def removed_by(model: nn.Module, x: Tensor, every: int = 1, **choices: Any) -> tuple[Chase, list[int]]:
    """Chase with all weights alive and a step size of 0, and the steps at which channels went."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    settings = {"plan": SoftBound(every=1000), "removal": Removal(every=every, until=1.0), "total_steps": 4, **choices}
    chase, when = Chase(model, optimizer, density=1.0, **settings), []
    for step in range(settings["total_steps"]):
        before = left(chase)
        optimizer.zero_grad()
        model(x).square().sum().backward()
        chase.step()
        when += [step] if left(chase) < before else []
    return chase, when


def test_equal_channels_go_from_the_first_on() -> None:
    chase, _ = removed_by(neurons(0.5, 0.5, 0.5, 0.5), torch.ones(2, 3), channel_sparsity=0.5)
    assert chase.removed["0"].tolist() == [True, True, False, False]


def test_a_layer_stops_at_its_floor_and_the_others_make_up_for_it() -> None:
    """Half of 12 go. The six weakest are those of the first layer, of which int(6 x 0.5 x 0.8) = 2 have to stay."""
    model = nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 2))
    with torch.no_grad():
        model[0].weight.copy_(0.01 * torch.arange(1, 7)[:, None].expand(-1, 3))
        model[2].weight.copy_(torch.tensor([5.0, 1, 6, 2, 4, 3])[:, None].expand(-1, 6))
    removal = Removal(every=1, until=1.0, floor=0.8)
    chase, _ = removed_by(model, torch.ones(2, 3), channel_sparsity=0.5, removal=removal)
    assert chase.removed["0"].tolist() == [True] * 4 + [False] * 2
    assert chase.removed["2"].tolist() == [False, True, False, True, False, False]


def test_channels_go_half_way_between_visits_of_weights() -> None:
    """Visits every 6 steps, removals every 4: at (t + 3) a multiple of 4."""
    plan, removal = SoftBound(every=6), Removal(every=4, until=1.0)
    wide = neurons(*(1.0 + i for i in range(40)))
    _, when = removed_by(wide, torch.ones(2, 3), plan=plan, removal=removal, total_steps=12, channel_sparsity=0.5)
    assert when == [1, 5, 9]


class Sum(nn.Module):
    """Two layers whose outputs are added: one stream, written by both."""

    def __init__(self, a: list[float], b: list[float]) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(2, 3), nn.Linear(2, 3), nn.Linear(3, 2)
        with torch.no_grad():
            self.a.weight.copy_(torch.tensor(a)[:, None].expand(-1, 2))
            self.b.weight.copy_(torch.tensor(b)[:, None].expand(-1, 2))

    def forward(self, x: Tensor) -> Tensor:
        return self.c(torch.relu(self.a(x) + self.b(x)))


def test_a_channel_of_a_sum_is_ranked_by_all_that_write_it_and_goes_in_all() -> None:
    """Means over both layers: 5, 3, 4. By the first alone channel 0 would go, by the second alone channel 2."""
    model = Sum([1.0, 2, 7], [9.0, 4, 1])
    chase, _ = removed_by(model, torch.ones(2, 2), channel_sparsity=0.3, residual=True)
    assert chase.removed["a"].tolist() == [False, True, False]
    zero = [t.detach()[1].any() for m in (model.a, model.b) for t in (m.weight, m.bias)]
    assert not any(zero)
    assert not model.c.weight.detach()[:, 1].any()
    assert model.a.weight.detach()[[0, 2]].all()


@pytest.mark.parametrize("make", [lambda: SoftBound(every=0), lambda: SoftBound(excess=2.0), lambda: Removal(floor=2)])
def test_plans_that_make_no_sense_are_refused(make: Any) -> None:
    with pytest.raises(ValueError, match="needs every >= 1"):
        make()


def test_the_unmasked_mean_counts_zeros() -> None:
    """10% of weights 1 against 50% of weights 0.3: 0.1 < 0.15 over all, 1 > 0.3 over the living."""
    weights = torch.zeros(2, 20)
    weights[0, :2], weights[1, :10] = -1.0, 0.3
    masks = weights != 0
    assert umm(weights, masks).tolist() == pytest.approx([0.1, 0.15])
    assert mmm(weights, masks).tolist() == pytest.approx([1.0, 0.3])
    assert mmm(torch.zeros(1, 3), torch.zeros(1, 3, dtype=torch.bool)).tolist() == [0]


@pytest.mark.parametrize(("score", "gone"), [(umm, 0), (mmm, 1)])
def test_the_channel_with_the_lowest_score_goes(score: Any, gone: int) -> None:
    """The two channels above, as two neurons; the third is far stronger."""
    model = nn.Sequential(nn.Linear(20, 3, bias=False), nn.ReLU(), nn.Linear(3, 2))
    with torch.no_grad():
        model[0].weight.zero_()
        model[0].weight[0, :2], model[0].weight[1, :10], model[0].weight[2] = -1.0, 0.3, 9.0
    masks = {"0.weight": model[0].weight.detach() != 0, "2.weight": torch.ones(2, 3, dtype=torch.bool)}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    chase = Chase(model, optimizer, masks=masks, total_steps=3, channel_sparsity=0.4, removal=SOON, score=score)
    for _ in range(3):
        model(torch.ones(1, 20)).sum().backward()
        chase.step()
    assert chase.removed["0"].tolist() == [c == gone for c in range(3)]


def test_one_visit_by_hand() -> None:
    """Two layers of 1 x 3, budget 3 over both, int(0.2 x 6) = 1 weight beyond it, SGD with rate 1 and momentum.

    Before: (4, 1, .) and (3, ., .), and one grown earlier (., 2, .), so four live. The step of the optimiser takes the
    gradients off: (4, 1 - 0.9) and (3, 2 + 3). So 0.1 goes. Largest gradients off the kept 4, 3, 5 are 0.9, where 0.1
    was, and 7 in the second layer: one more grows, at the 7, over both layers together, and starts at 0.
    """
    model = nn.Sequential(nn.Linear(3, 1, bias=False), nn.Linear(3, 1, bias=False))
    a, b = model[0].weight, model[1].weight
    a.data, b.data = torch.tensor([[4.0, 1, 8]]), torch.tensor([[3.0, 2, 8]])
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0, momentum=0.5)
    plan = SoftBound(every=1, excess=0.2, until=1.0)
    masks = {"0.weight": torch.tensor([[True, True, False]]), "1.weight": torch.tensor([[True, False, False]])}
    chase = Chase(model, optimizer, masks=masks, total_steps=10**6, plan=plan, channel_sparsity=0)
    chase.steps = 1
    chase._commit({**masks, "1.weight": torch.tensor([[True, True, False]])})
    b.data[0, 1] = 2.0
    a.grad, b.grad = torch.tensor([[0.0, 0.9, 0.0]]), torch.tensor([[0.0, -3.0, 7.0]])
    chase.step()
    assert chase.masks["0.weight"].tolist() == [[True, False, False]]
    assert chase.masks["1.weight"].tolist() == [[True, True, True]]
    assert (a.tolist(), b.tolist()) == ([[4, 0, 0]], [[3, 5, 0]])
    assert optimizer.state[b]["momentum_buffer"].tolist() == [[0, -3, 0]]


def test_a_weight_dropped_and_grown_in_one_visit_starts_at_zero() -> None:
    layer = nn.Sequential(nn.Linear(3, 1, bias=False))
    layer[0].weight.data = torch.tensor([[4.0, 1.0, 8.0]])
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1, momentum=0.5)
    mask = torch.tensor([[True, True, False]])
    plan = SoftBound(every=1, fraction=0.5, last=0.5, until=1e-9)
    chase = Chase(layer, optimizer, masks={"0.weight": mask}, total_steps=9, plan=plan, channel_sparsity=0)
    chase.steps = 1
    layer[0].weight.grad = torch.tensor([[0.0, -5.0, 1.0]])
    chase.step()
    assert torch.equal(chase.masks["0.weight"], mask)
    assert layer[0].weight.tolist() == [[4, 0, 0]]
    assert optimizer.state[layer[0].weight]["momentum_buffer"].tolist() == [[0, 0, 0]]


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("sparsity", [0.0, 0.5])
def test_weights_stay_below_the_soft_bound_and_end_at_the_budget(network: str, sparsity: float) -> None:
    model, optimizer, chase = built(network, channel_sparsity=sparsity)
    budget = round(0.3 * chase.size)
    assert chase.nonzeros == budget
    counts = []
    for _ in range(STEPS):
        train(model, optimizer, chase, 1)
        counts.append(chase.nonzeros)
    end = int(130 / 160 * STEPS)
    for step in range(6, end, 6):
        bound = budget + int(chase.size * 0.025 * (1 + math.cos(math.pi * step / end)))
        assert counts[step] == bound
        assert max(counts[step : step + 6]) == bound
    assert counts[-1] == budget if not sparsity else counts[-1] <= budget
    assert counts[:6] == [budget] * 6 if not sparsity else max(counts[:6]) <= budget


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("network", NETWORKS)
def test_channels_go_by_the_cubic_law_and_never_come_back(network: str, residual: bool) -> None:
    model, optimizer, chase = built(network, channel_sparsity=0.5, residual=residual)
    channels, end = left(chase), int(130 / 160 * STEPS)
    before = chase.removed
    for step in range(STEPS):
        train(model, optimizer, chase, 1)
        now = chase.removed
        if step == end or (step < end and step % 6 == 3):
            assert left(chase) == round(channels * (1 - 0.5 * (1 - (1 - step / end) ** 3)))
        assert all(bool((now[n] >= before[n]).all()) for n in now)
        before = now
    assert left(chase) == round(0.5 * channels)
    widths = {n: len(r) for n, r in before.items()}
    assert all(int((~before[n]).sum()) >= int(0.25 * w) for n, w in widths.items())


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("network", NETWORKS)
def test_zeros_stay_zero_in_weights_slots_biases_and_norms(network: str, optimizer: str) -> None:
    model, held, chase = built(network, optimizer, channel_sparsity=0.5, residual=True)
    for _ in range(STEPS // 4):
        train(model, held, chase, 4)
        for part in chase.parts.values():
            for tensor in (part.weight.detach(), *part.slots(held)):
                assert not tensor[~part.mask].any()
            assert not (part.mask & part.memory["removed"]).any()
        for name, gone in chase.removed.items():
            stream = channel_groups(model)[name]
            for place, keys in [(p, ("bias",)) for p in stream.writers] + [
                (p, ("weight", "bias")) for p in stream.norms
            ]:
                parameters = [model.get_submodule(place.module)._parameters.get(k) for k in keys]
                for parameter in (p for p in parameters if p is not None):
                    slots = [s for s in held.state[parameter].values() if s.shape == parameter.shape]
                    assert not any(t[gone].any() for t in (parameter.detach(), *slots))
    assert all(bool(torch.isfinite(p).all()) for p in model.parameters())


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("network", NETWORKS)
def test_the_shrunk_model_equals_the_masked_one(network: str, residual: bool) -> None:
    model, optimizer, chase = built(network, channel_sparsity=0.4, residual=residual)
    train(model, optimizer, chase, STEPS)
    x = torch.randn(16, 3, 12, 12)
    small = chase.shrink().eval()
    model.eval()
    assert float((model(x) - small(x)).detach().abs().max()) < 1e-5
    wide, narrow = copy.deepcopy(model).double(), copy.deepcopy(small).double()
    assert float((wide(x.double()) - narrow(x.double())).detach().abs().max()) < 1e-12
    assert sum(int(p.count_nonzero()) for p in small.parameters()) == sum(
        int(p.count_nonzero()) for p in model.parameters()
    )
    streams = channel_groups(small)
    assert {n: streams[n].width for n in chase.removed} == {n: int((~r).sum()) for n, r in chase.removed.items()}


def test_another_model_of_the_same_form_is_shrunk_alike() -> None:
    """An average of the weights, which is zero in the removed channels too; one that is not is refused."""
    model, optimizer, chase = built(channel_sparsity=0.4)
    train(model, optimizer, chase, STEPS)
    average = copy.deepcopy(model).eval()
    x = torch.randn(4, 3, 12, 12)
    assert torch.allclose(chase.shrink(average)(x), average(x), atol=1e-5)
    with pytest.raises(ValueError, match="is still read by"):
        chase.shrink(NETWORKS["residual"]())


def test_resume_in_the_middle_is_bit_identical() -> None:
    for optimizer in OPTIMIZERS:
        whole = built("residual", optimizer, channel_sparsity=0.4)
        train(*whole, 20)
        file = io.BytesIO()
        torch.save([part.state_dict() for part in whole], file)
        train(*whole, STEPS - 20)
        file.seek(0)
        saved = torch.load(file, weights_only=True)
        again = built("residual", optimizer, channel_sparsity=0.4, seed=5)
        for part, state in zip(reversed(again), reversed(saved), strict=True):
            part.load_state_dict(state)
        train(*again, STEPS - 20)
        for a, b in zip(whole[0].state_dict().values(), again[0].state_dict().values(), strict=True):
            assert torch.equal(a, b)
        assert all(torch.equal(r, again[2].removed[n]) for n, r in whole[2].removed.items())


def test_where_there_is_no_room_all_that_is_left_lives() -> None:
    model, optimizer, chase = built("plain", density=0.95, channel_sparsity=0.6)
    train(model, optimizer, chase, STEPS)
    alive = sum(int((~p.memory["removed"]).sum()) for p in chase.parts.values())
    assert chase.nonzeros <= alive < round(0.95 * chase.size)
    small = chase.shrink()
    assert alive == sum(p.numel() for p in small.parameters() if p.ndim > 1)


def test_layers_left_out_keep_their_channels() -> None:
    """conv2 of the first block is not pruned: conv1 of that block cannot lose channels, since conv2 reads them."""
    chase = built(layers=lambda n, m: isinstance(m, nn.Conv2d) and n != "3.conv2")[2]
    assert list(chase.removed) == ["4.conv1", "5.conv1"]


def test_training_makes_some_channels_sparser_than_chance() -> None:
    """The paper's finding, after RigL on digits: densities of filters spread more than those of a random mask.

    A filter of 16 x 9 weights of a layer with density d has a binomial number of living weights under a random mask.
    """
    pixels, labels = load_digits(return_X_y=True)
    x, y = torch.tensor(pixels / 16, dtype=torch.float32).reshape(-1, 1, 8, 8), torch.tensor(labels)
    spread = {}
    for method in (Static, RigL):
        torch.manual_seed(0)
        model = small_conv(16, 2, inputs=1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
        plan = {"plan": Exploration(every=10, until=1.0)} if method is RigL else {}
        sparsifier = method(model, optimizer, density=0.1, total_steps=150, **plan)
        g = torch.Generator().manual_seed(0)
        for _ in range(150):
            rows = torch.randint(len(x), (64,), generator=g)
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
            sparsifier.step()
        mask = sparsifier.masks["12.weight"].flatten(1)
        law = stats.binom(mask.shape[1], float(mask.float().mean()))
        edges = np.random.default_rng(0).uniform(-0.5, 0.5, len(mask))
        spread[method] = stats.kstest(mask.sum(1).numpy() + edges, smooth, args=(law,)).pvalue
    assert spread[RigL] < 0.01 < spread[Static]


def smooth(v: np.ndarray, law: Any) -> np.ndarray:
    """The distribution function of a whole number of ``law`` plus a uniform number in -1/2..1/2."""
    whole = np.floor(v + 0.5)
    return law.cdf(whole - 1) + law.pmf(whole) * (v + 0.5 - whole)


def branching() -> nn.Module:
    class Branch(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Conv2d(3, 3, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.a(x) if x.sum() > 0 else x

    return Branch()


@pytest.mark.parametrize(
    ("model", "choices", "message"),
    [
        (nn.Sequential(nn.BatchNorm2d(3)), {}, "the model has no prunable layer"),
        (nn.Sequential(nn.Conv2d(3, 4, 3)), {}, "no layer can lose a channel: 0: it is the output of the model"),
        (nn.Linear(3, 2), {}, "no layer can lose a channel: torch.fx finds no layer"),
        (
            small_resnet(4, 1),
            {"layers": lambda n, m: n in ("3.conv1", "0")},
            "no layer can lose a channel: 0: 3.conv2 is not pruned; 3.conv1: 3.conv2 is not pruned",
        ),
        (
            nn.Sequential(nn.Linear(3, 1), nn.ReLU(), nn.Linear(1, 2)),
            {},
            "0 would lose all its 1 channels: ask for less",
        ),
        (branching(), {}, "forward pass of Branch cannot be traced"),
        (small_conv(4), {"channel_sparsity": 1.0}, "channel_sparsity must be from 0 to below 1, got 1.0"),
        (small_conv(4), {"density": 2.0}, "density must be above 0 and at most 1"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(model: nn.Module, choices: dict[str, Any], message: str) -> None:
    parameters = list(model.parameters()) or [nn.Parameter(torch.ones(1))]
    with pytest.raises(ValueError, match=message):
        Chase(
            model,
            torch.optim.SGD(parameters, lr=0.1),
            **{"total_steps": 9, "density": 0.5, "channel_sparsity": 0.6, **choices},
        )


def test_without_channels_to_remove_any_model_will_do() -> None:
    model = branching()
    chase = Chase(model, torch.optim.SGD(model.parameters(), lr=0.1), density=0.5, total_steps=5, channel_sparsity=0)
    assert chase.removed == {}


def test_gradients_and_weights_that_are_not_finite_are_refused() -> None:
    model, optimizer, chase = built(channel_sparsity=0.4)
    train(model, optimizer, chase, 2)
    chase.steps = 6
    masks = chase.masks
    model.get_submodule("4.conv1").weight.grad[0, 0] = torch.inf
    with pytest.raises(ValueError, match=r"gradient of 4.conv1.weight is not finite"):
        chase.step()
    assert chase.steps == 6
    assert all(torch.equal(m, masks[n]) for n, m in chase.masks.items())
    chase.steps = 9
    with torch.no_grad():
        model.get_submodule("5.conv1").weight[chase.masks["5.conv1.weight"]] = torch.nan
    with pytest.raises(ValueError, match=r"weights of 5.conv1 are not finite"):
        chase._remove(9)


def test_a_module_changed_afterwards_is_refused() -> None:
    model, optimizer, chase = built(channel_sparsity=0.4)
    train(model, optimizer, chase, 2)
    model.get_submodule("4").conv1 = nn.Conv2d(6, 12, 3, 2, 1, bias=False)
    with pytest.raises(ValueError, match=r"4.conv1.weight was replaced after"):
        train(model, optimizer, chase, 1)

"""The laws of the engine: exact zeros, exact counts, exact resume, and bad input refused by name."""

import copy
import io
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sparelu.train.dynamic import MEST, SET, SNFS, RigL
from sparelu.train.sparsifier.mask_enforcement import LOOK, ZERO_KEEPING
from sparelu.train.sparsifier.prunable import LayerCollapseWarning
from sparelu.train.sparsifier.sparsifier import Sparsifier
from sparelu.train.sparsifier.update_schedules import Exploration, Gradual
from sparelu.train.static import GradualMagnitude, Magnitude, Static

OFTEN = Exploration(every=2, until=1.0)
METHODS: dict[str, Callable[..., Sparsifier]] = {
    "SET": lambda *a, **k: SET(*a, plan=OFTEN, **k),
    "RigL": lambda *a, **k: RigL(*a, plan=OFTEN, **k),
    "SNFS": lambda *a, **k: SNFS(*a, plan=OFTEN, **k),
    "MEST": lambda *a, **k: MEST(*a, plan=Exploration(every=2, until=0.6, soft=True), **k),
    "Static": Static,
    "Magnitude": Magnitude,
    "Gradual": lambda *a, **k: GradualMagnitude(*a, plan=Gradual(every=2), **k),
}
OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "SGD": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-2),
    "Adam": lambda p: torch.optim.Adam(p, lr=0.01, amsgrad=True, weight_decay=1e-2),
    "AdamW": lambda p: torch.optim.AdamW(p, lr=0.01, foreach=True),
    "RMSprop": lambda p: torch.optim.RMSprop(p, lr=0.01, momentum=0.9, centered=True),
    "Adagrad": lambda p: torch.optim.Adagrad(p, lr=0.01, initial_accumulator_value=0.1),
    "Adadelta": lambda p: torch.optim.Adadelta(p),
    "RAdam": lambda p: torch.optim.RAdam(p),
    "NAdam": lambda p: torch.optim.NAdam(p),
    "Adamax": lambda p: torch.optim.Adamax(p),
    "ASGD": lambda p: torch.optim.ASGD(p),
    "Rprop": lambda p: torch.optim.Rprop(p),
    "Adafactor": lambda p: torch.optim.Adafactor(p),
    "Muon": lambda p: torch.optim.Muon([w for w in p if w.ndim == 2]),
}
NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "linear": (lambda: nn.Sequential(nn.Linear(8, 12), nn.ReLU(), nn.Linear(12, 3)), (8,)),
    "conv1d": (lambda: nn.Sequential(nn.Conv1d(4, 6, 3), nn.ReLU(), nn.Conv1d(6, 4, 2, groups=2)), (4, 7)),
    "conv2d": (lambda: nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 2, 1)), (3, 5, 5)),
    "conv3d": (lambda: nn.Sequential(nn.Conv3d(2, 4, 2), nn.ReLU(), nn.Conv3d(4, 4, 2, groups=4)), (2, 4, 4, 4)),
    "transposed": (
        lambda: nn.Sequential(nn.ConvTranspose1d(4, 6, 3), nn.ReLU(), nn.ConvTranspose1d(6, 4, 3, groups=2)),
        (4, 5),
    ),
    "transposed2d": (lambda: nn.Sequential(nn.ConvTranspose2d(3, 4, 3), nn.ConvTranspose2d(4, 2, 2)), (3, 4, 4)),
    "transposed3d": (lambda: nn.Sequential(nn.ConvTranspose3d(2, 3, 2), nn.Conv3d(3, 2, 2)), (2, 3, 3, 3)),
}


def built(network: str = "linear", optimizer: str = "SGD", method: str = "RigL", **choices: Any) -> Any:
    """A model, its optimiser, a sparsifier and one batch."""
    torch.manual_seed(0)
    make, shape = NETWORKS[network]
    model, x = make(), torch.randn(16, *shape)
    weights = list(model.parameters())
    held = OPTIMIZERS[optimizer](weights)
    budget = {} if {"masks", "nonzeros"} & set(choices) else {"density": 0.3}
    return model, held, METHODS[method](model, held, total_steps=20, **budget, **choices), x


def train(model: nn.Module, optimizer: torch.optim.Optimizer, sparsifier: Sparsifier, x: Tensor, steps: int) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        (model(x) - 1).square().mean().backward()
        sparsifier.step()


def loose(optimizer: torch.optim.Optimizer, sparsifier: Sparsifier) -> list[str]:
    """What is not exactly zero off the support."""
    found = []
    for name, part in sparsifier.parts.items():
        slots = {k: v for k, v in optimizer.state[part.weight].items() if getattr(v, "shape", None) == part.mask.shape}
        for key, tensor in {"weight": part.weight.detach(), **slots}.items():
            if tensor[~part.mask].count_nonzero():
                found.append(f"{name} {key}")
    return found


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("method", METHODS)
def test_zeros_stay_and_counts_are_kept(network: str, method: str) -> None:
    model, optimizer, sparsifier, x = built(network, "SGD", method)
    budget = round(0.3 * sparsifier.size)
    before = {n: m.sum() for n, m in sparsifier.masks.items()}
    for _ in range(20):
        train(model, optimizer, sparsifier, x, 1)
        assert loose(optimizer, sparsifier) == []
        if method not in ("MEST", "Gradual"):
            assert {n: m.sum() for n, m in sparsifier.masks.items()} == before
    assert sparsifier.nonzeros == budget
    assert sum(int(p.weight.count_nonzero()) for p in sparsifier.parts.values()) <= budget


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimiser_keeps_zeros(optimizer: str) -> None:
    layers = (lambda name, module: isinstance(module, nn.Linear)) if optimizer == "Muon" else None
    model, held, sparsifier, x = built("linear", optimizer, "RigL", layers=layers)
    for _ in range(12):
        train(model, held, sparsifier, x, 1)
        assert loose(held, sparsifier) == []
    assert all(bool(torch.isfinite(p).all()) for p in model.parameters())
    assert sparsifier.nonzeros == sparsifier.active == round(0.3 * sparsifier.size)
    assert (sparsifier.steps, sparsifier.updates) == (12, 5), "the support must have moved, or this shows little"


def test_without_the_engine_the_optimiser_leaves_the_support() -> None:
    """The check above can fail: a step after detach() fills the weights."""
    model, optimizer, sparsifier, x = built()
    sparsifier.detach()
    model(x).sum().backward()
    optimizer.step()
    assert "0.weight weight" in loose(optimizer, sparsifier)
    sparsifier.apply()
    assert loose(optimizer, sparsifier) == []


def test_optimisers_that_are_trusted_with_zeros_are_all_tested() -> None:
    parameter = [nn.Parameter(torch.ones(2, 2))]
    assert {type(make(parameter)) for make in OPTIMIZERS.values()} > ZERO_KEEPING


@pytest.mark.parametrize("what", ["weight", "slot", "loaded", "new slots", "data"])
def test_what_others_write_off_the_support_is_gone_after_the_next_step(what: str) -> None:
    model, optimizer, sparsifier, x = built(optimizer="Adam", method="Static")
    train(model, optimizer, sparsifier, x, 3)
    weight = model[0].weight
    with torch.no_grad():
        if what == "weight":
            weight.add_(1)
        elif what == "data":  # such writes torch does not count
            weight.data.add_(1)
        elif what == "slot":
            optimizer.state[weight]["exp_avg"].add_(1)
        elif what == "loaded":
            model.load_state_dict({n: t + 1 for n, t in model.state_dict().items()})
        else:
            state = copy.deepcopy(optimizer.state_dict())
            state["state"][0]["exp_avg"] += 1
            optimizer.load_state_dict(state)
    assert loose(optimizer, sparsifier)
    before = sparsifier.masks
    train(model, optimizer, sparsifier, x, LOOK if what == "data" else 1)
    assert loose(optimizer, sparsifier) == []
    assert all(torch.equal(m, before[n]) for n, m in sparsifier.masks.items())


def test_what_a_hook_of_the_step_writes_is_gone_after_it() -> None:
    model, optimizer, sparsifier, x = built(optimizer="Adam", method="Static")
    optimizer.register_step_post_hook(lambda *_: model[0].weight.data.add_(1))
    train(model, optimizer, sparsifier, x, 3)
    assert loose(optimizer, sparsifier) == []


def test_a_gradient_of_one_number_in_many_places() -> None:
    model, optimizer, sparsifier, _ = built(method="Static")
    model[0].weight.grad = torch.ones(1, 1).expand(12, 8)
    sparsifier.step()
    assert torch.equal(model[0].weight.grad != 0, sparsifier.masks["0.weight"])
    assert torch.equal(model[0].weight.grad.unique(), torch.tensor([0.0, 1.0]))


@pytest.mark.filterwarnings("ignore:the model was as sparse as asked")  # it was: another sparsifier is gone
def test_a_closure_sees_no_gradient_of_dropped_weights() -> None:
    model, _, first_one, x = built()
    first_one.detach()
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=5)
    sparsifier = Static(model, optimizer, density=0.3)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = (model(x) - 1).square().mean()
        loss.backward()
        return loss

    first = float(closure().detach())
    for _ in range(3):
        sparsifier.step(closure)
    assert float(closure().detach()) < 0.9 * first
    assert loose(optimizer, sparsifier) == []


@pytest.mark.parametrize("allocation", ["uniform", "er", "erk", "global"])
@pytest.mark.parametrize("method", ["SET", "RigL", "Magnitude"])
def test_every_scope_gives_the_number_asked_for(allocation: str, method: str) -> None:
    model, optimizer, sparsifier, x = built(method=method, nonzeros=41, allocation=allocation)
    for _ in range(5):
        assert sparsifier.nonzeros == 41
        assert sum(int(m.sum()) for m in sparsifier.masks.values()) == 41
        train(model, optimizer, sparsifier, x, 1)


def test_clipping_leaves_dropped_weights_out() -> None:
    """By hand: the living gradient is (3, 4) with norm 5; the dropped one, 12, would make it 13."""
    layer = nn.Linear(3, 1, bias=False)
    masks = {"weight": torch.tensor([[True, True, False]])}
    sparsifier = Static(layer, sgd(layer), masks=masks)
    layer.weight.grad = torch.tensor([[3.0, 4.0, 12.0]])
    assert float(sparsifier.clip_gradients(10.0)) == 5
    assert layer.weight.grad.tolist() == [[3, 4, 12]]
    sparsifier.clip_gradients(2.5)
    assert layer.weight.grad[0].tolist() == pytest.approx([1.5, 2, 6], rel=1e-5)


def test_the_memory_order_of_weights_is_kept() -> None:
    """Channels last: masks lie as the weights do, and zeros stay zero."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(4, 6, 3), nn.ReLU(), nn.Conv2d(6, 2, 3)).to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(model.parameters())
    sparsifier = RigL(model, optimizer, density=0.3, total_steps=9, plan=OFTEN)
    train(model, optimizer, sparsifier, torch.randn(4, 4, 7, 7).to(memory_format=torch.channels_last), 6)
    assert model[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert sparsifier.parts["0.weight"].mask.stride() == model[0].weight.stride()
    assert loose(optimizer, sparsifier) == []


def test_the_seed_decides() -> None:
    masks = [built(seed=s)[2].masks["0.weight"] for s in (3, 3, 4)]
    assert torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[0], masks[2])
    assert masks[0].sum() == masks[2].sum()


def test_random_masks_know_nothing_of_weights_drawn_with_the_same_seed() -> None:
    """Of 10,000 weights uniform on +-0.1 the half that lives sums to 0 within five deviations of 0.058 sqrt(5000)."""
    for seed in (0, 1):
        torch.manual_seed(seed)
        model = nn.Linear(100, 100, bias=False)
        Static(model, sgd(model), density=0.5, seed=seed)
        assert abs(float(model.weight.detach().sum())) < 5 * 0.058 * 5000**0.5


@pytest.mark.filterwarnings("ignore:the model was as sparse as asked")  # it was: another sparsifier is gone
def test_the_global_generator_is_left_alone() -> None:
    model, optimizer, first, x = built()
    first.detach()
    before = torch.get_rng_state()
    sparsifier = SET(model, optimizer, density=0.3, total_steps=9, plan=OFTEN)
    train(model, optimizer, sparsifier, x, 5)
    assert torch.equal(torch.get_rng_state(), before)
    assert sparsifier.updates > 0, "it must have drawn, or this shows nothing"


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("optimizer", ["SGD", "Adam"])
def test_resume_in_the_middle_is_bit_identical(method: str, optimizer: str) -> None:
    whole = built("conv2d", optimizer, method)
    train(*whole, 7)
    file = io.BytesIO()
    torch.save({n: part.state_dict() for n, part in zip(("m", "o", "s"), whole, strict=False)}, file)
    train(*whole, 8)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    again = built("conv2d", optimizer, method, seed=5)
    for name, part in zip(("s", "m", "o"), (again[2], *again[:2]), strict=True):
        part.load_state_dict(saved[name])
    train(*again, 8)
    for a, b in zip(whole[0].state_dict().values(), again[0].state_dict().values(), strict=True):
        assert torch.equal(a, b)
    for name, mask in whole[2].masks.items():
        assert torch.equal(mask, again[2].masks[name])
    assert whole[2].explored == again[2].explored


def test_copies_train_on() -> None:
    whole = built()
    train(*whole, 3)
    other = copy.deepcopy(whole)
    train(*whole, 5)
    train(*other, 5)
    assert torch.equal(whole[0][0].weight, other[0][0].weight)
    assert torch.equal(whole[2].masks["0.weight"], other[2].masks["0.weight"])
    assert other[2].parts["0.weight"].weight is other[0][0].weight


def test_the_model_is_an_ordinary_one() -> None:
    """Same keys as before, no hooks, and it goes into a model that never heard of this."""
    model, optimizer, sparsifier, x = built()
    train(model, optimizer, sparsifier, x, 4)
    plain = NETWORKS["linear"][0]()
    assert list(plain.state_dict()) == list(model.state_dict())
    plain.load_state_dict(model.state_dict())
    assert torch.equal(plain(x), model(x))
    again = pickle.loads(pickle.dumps(model))
    assert torch.equal(again(x), model(x))


def test_learning_rate_schedulers_see_the_optimisers_steps() -> None:
    """torch warns, which is an error here, when a scheduler steps before the optimiser has."""
    model, optimizer, sparsifier, x = built()
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 2)
    for _ in range(4):
        train(model, optimizer, sparsifier, x, 1)
        schedule.step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.05 * 0.1**2)
    assert schedule.last_epoch == sparsifier.steps == 4


def test_masks_pass_from_one_method_to_another() -> None:
    model, optimizer, first, x = built(method="Magnitude")
    first.detach()
    second = RigL(model, optimizer, masks=first.masks, total_steps=10, plan=OFTEN)
    counts = {n: int(m.sum()) for n, m in first.masks.items()}
    train(model, optimizer, second, x, 3)
    assert {n: int(m.sum()) for n, m in second.masks.items()} == counts
    assert any(not torch.equal(m, first.masks[n]) for n, m in second.masks.items())


def test_an_optimiser_that_has_been_used_is_cleaned() -> None:
    model, optimizer, first, x = built(optimizer="Adam")
    first.detach()
    for _ in range(2):
        optimizer.zero_grad()
        model(x).sum().backward()
        optimizer.step()
    assert loose(optimizer, Static(model, optimizer, density=0.1)) == []


def test_shared_weights_are_counted_once() -> None:
    model = nn.Sequential(nn.Linear(5, 5), nn.ReLU(), nn.Linear(5, 5))
    model[2].weight = model[0].weight
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    sparsifier = RigL(model, optimizer, nonzeros=10, total_steps=5, plan=OFTEN)
    assert list(sparsifier.parts) == ["0.weight"]
    train(model, optimizer, sparsifier, torch.randn(4, 5), 5)
    assert int(model[2].weight.count_nonzero()) <= sparsifier.nonzeros == 10


def test_frozen_layers_are_left_alone() -> None:
    model = nn.Sequential(nn.Linear(5, 5), nn.Linear(5, 2))
    model[0].requires_grad_(False)
    sparsifier = Static(model, torch.optim.SGD(model.parameters(), lr=0.1), density=0.5)
    assert list(sparsifier.parts) == ["1.weight"]
    assert model[0].weight.all()
    assert sparsifier.nonzeros == int(model[1].weight.count_nonzero()) == 5


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(7, 4)
        self.out = nn.Linear(4, 7)
        self.out.weight = self.words.weight


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.1)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.Sequential(nn.BatchNorm1d(3)), "no prunable layer"),
        (Tied(), r"out.weight shares its memory with words.weight"),
        (
            nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(2, 2))),
            r"weight of 0 \(ParametrizedLinear\) is not a parameter",
        ),
        (nn.Sequential(nn.Linear(2, 2), nn.LazyLinear(3)), r"weight of 1 \(LazyLinear\) has no shape yet"),
    ],
)
def test_models_that_cannot_be_pruned_are_refused_by_name(model: nn.Module, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Static(model, sgd(nn.Linear(1, 1)), density=0.5)


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"density": 0.0}, "density must be above 0"),
        ({"density": 1.5}, "at most 1, got 1.5"),
        ({"nonzeros": 9}, "the layers have 8 weights: ask for 1 to 8"),
        ({}, "exactly one of density, nonzeros and masks"),
        ({"density": 0.5, "nonzeros": 4}, "exactly one of density, nonzeros and masks"),
        ({"density": 0.5, "layers": lambda n, m: False}, "`layers` chooses no layer"),
        ({"masks": {"weight": torch.ones(3, 4, dtype=torch.bool)}}, r"mask of weight must be bool of shape \(2, 4\)"),
        ({"masks": {"other": torch.ones(2, 4, dtype=torch.bool)}}, "differ at other"),
        ({"density": 0.5, "total_steps": 0}, "total_steps must be at least 1"),
    ],
)
def test_budgets_that_do_not_fit_are_refused(choices: dict[str, Any], message: str) -> None:
    model = nn.Linear(4, 2)
    with pytest.raises(ValueError, match=message):
        RigL(model, sgd(model), **{"total_steps": 5, **choices})


def test_an_optimiser_of_another_model_is_refused() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    optimizer = sgd(model)
    model[1] = nn.Linear(4, 2)
    with pytest.raises(ValueError, match=r"does not hold 1.weight.*Make the optimizer"):
        Static(model, optimizer, density=0.5)


@pytest.mark.parametrize("change", ["layer", "weight"])
def test_a_model_changed_afterwards_is_refused(change: str) -> None:
    model, optimizer, sparsifier, x = built()
    train(model, optimizer, sparsifier, x, 1)
    if change == "layer":
        model[2] = nn.Linear(12, 3)
    else:
        model[2].weight = nn.Parameter(torch.ones(3, 12))
    with pytest.raises(ValueError, match=r"2.weight was replaced after"):
        train(model, optimizer, sparsifier, x, 1)


def test_a_layer_that_joins_afterwards_is_named_once(recwarn: pytest.WarningsRecorder) -> None:
    model, optimizer, sparsifier, x = built()
    train(model, optimizer, sparsifier, x, 1)
    model.append(nn.Sequential(nn.ReLU(), nn.Linear(3, 3)))
    train(model, optimizer, sparsifier, x, 2)
    assert [str(w.message).split(" joined")[0] for w in recwarn] == ["3.1"]


def test_a_layer_left_empty_is_named() -> None:
    model = nn.Sequential(nn.Linear(100, 100), nn.Linear(100, 1))
    with pytest.warns(LayerCollapseWarning, match=r"1.weight has no weight left of 100"):
        Static(model, sgd(model), density=0.001, allocation="uniform")


def test_states_of_others_are_refused() -> None:
    sparsifier = built()[2]
    state = sparsifier.state_dict()
    with pytest.raises(ValueError, match="this is no state of a sparsifier: it has no 'generator'"):
        sparsifier.load_state_dict({"0.weight": torch.ones(1)})
    with pytest.raises(ValueError, match="differ at 2.weight"):
        built("conv2d")[2].load_state_dict(state)
    with pytest.raises(ValueError, match="the state is of RigL, not of SET"):
        built(method="SET")[2].load_state_dict(state)
    with pytest.raises(ValueError, match="the state has 40 nonzeros and 20 steps, this sparsifier 50"):
        built(nonzeros=50)[2].load_state_dict(state)


def test_gradients_that_are_not_finite_change_nothing() -> None:
    model, optimizer, sparsifier, x = built()
    train(model, optimizer, sparsifier, x, 2)
    weight, masks = model[0].weight.detach().clone(), sparsifier.masks
    model[0].weight.grad[0, 0] = torch.nan
    with pytest.raises(ValueError, match=r"gradient of 0.weight is not finite"):
        sparsifier.step()
    assert sparsifier.steps == 2
    assert torch.equal(model[0].weight, weight)
    assert torch.equal(sparsifier.masks["0.weight"], masks["0.weight"])
    train(model, optimizer, sparsifier, x, 2)


def test_growth_without_a_backward_pass_is_refused() -> None:
    sparsifier = built()[2]
    sparsifier.steps = 2
    with pytest.raises(ValueError, match=r"0.weight has no gradient: call step\(\) after loss.backward"):
        sparsifier.step()

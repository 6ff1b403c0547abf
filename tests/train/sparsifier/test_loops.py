"""Any loop and any order of calls trains the same weights, bit for bit; what cannot be right is refused."""

import copy
import gc
import itertools
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sparelu.train import Chase, Removal, SoftBound
from sparelu.train.dynamic import MEST, SET, SNFS, RigL
from sparelu.train.sparsifier.sparsifier import Sparsifier
from sparelu.train.sparsifier.update_schedules import Exploration, NoUpdateWarning
from sparelu.train.static import GradualMagnitude, Magnitude, Static
from tests.train.sparsifier.test_sparsifier import METHODS as ENGINE_METHODS
from tests.train.sparsifier.test_sparsifier import OFTEN

TOTAL = 8
METHODS: dict[str, Callable[..., Sparsifier]] = {
    **ENGINE_METHODS,
    "Chase": lambda *a, **k: Chase(*a, plan=SoftBound(every=2), removal=Removal(every=4), channel_sparsity=0.25, **k),
}
OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "SGD": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-2),
    "Adam": lambda p: torch.optim.Adam(p, lr=0.01, fused=True),
    "AdamW": lambda p: torch.optim.AdamW(p, lr=0.01, amsgrad=True),
    "RMSprop": lambda p: torch.optim.RMSprop(p, lr=0.01, momentum=0.9),
    "Adamax": lambda p: torch.optim.Adamax(p, lr=0.01),
}
X, Y = torch.randn(16, 8, generator=torch.Generator().manual_seed(1)), torch.ones(16, 3)
Kit = tuple[nn.Module, torch.optim.Optimizer, Sparsifier]


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(8, 12), nn.ReLU(), nn.Linear(12, 6), nn.ReLU(), nn.Linear(6, 3))


def kit(method: str = "RigL", optimizer: str = "SGD", seed: int = 0, **choices: Any) -> Kit:
    model = network(seed)
    held = OPTIMIZERS[optimizer](model.parameters())
    return model, held, METHODS[method](model, held, density=0.3, total_steps=TOTAL, seed=seed, **choices)


def loss_of(model: nn.Module) -> Tensor:
    return (model(X) - Y).square().mean()


def by_sparsifier(model: nn.Module, optimizer: Any, sparsifier: Sparsifier) -> None:
    optimizer.zero_grad()
    loss_of(model).backward()
    sparsifier.step()


def by_optimizer(model: nn.Module, optimizer: Any, sparsifier: Sparsifier) -> None:
    optimizer.zero_grad()
    loss_of(model).backward()
    optimizer.step()


def closure_of(model: nn.Module, optimizer: Any) -> Callable[[], Tensor]:
    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = loss_of(model)
        loss.backward()
        return loss

    return closure


def closure_to_sparsifier(model: nn.Module, optimizer: Any, sparsifier: Sparsifier) -> None:
    loss = sparsifier.step(closure_of(model, sparsifier))
    assert float(loss.detach()) >= 0


def closure_to_optimizer(model: nn.Module, optimizer: Any, sparsifier: Sparsifier) -> None:
    optimizer.step(closure=closure_of(model, optimizer))


def accumulated(model: nn.Module, optimizer: Any, sparsifier: Sparsifier) -> None:
    optimizer.zero_grad(set_to_none=False)
    for _ in range(2):
        (0.5 * loss_of(model)).backward()
    optimizer.step()


def scaled(unscaled: str, stepped: str) -> Callable[..., None]:
    """A GradScaler that is given the optimiser or the sparsifier, in two places or in one; powers of 2 are exact."""

    def loop(model: nn.Module, optimizer: Any, sparsifier: Sparsifier) -> None:
        scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
        who = {"optimizer": optimizer, "sparsifier": sparsifier}
        sparsifier.zero_grad()
        scaler.scale(loss_of(model)).backward()
        if unscaled:
            scaler.unscale_(who[unscaled])
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1e9)
        scaler.step(who[stepped])
        scaler.update()

    return loop


def scheduled(model: nn.Module, optimizer: Any, sparsifier: Sparsifier) -> None:
    """Calls of both kinds in turn, under a schedule of the sparsifier."""
    schedule = torch.optim.lr_scheduler.LambdaLR(sparsifier, lambda step: 1.0)
    by_optimizer(model, optimizer, sparsifier)
    schedule.step()


LOOPS: dict[str, Callable[..., None]] = {
    "sparsifier.step()": by_sparsifier,
    "optimizer.step()": by_optimizer,
    "sparsifier.step(closure)": closure_to_sparsifier,
    "optimizer.step(closure)": closure_to_optimizer,
    "accumulated": accumulated,
    "scheduled": scheduled,
    **{
        f"scaler: {unscaled or 'nothing'} unscaled, {stepped} stepped": scaled(unscaled, stepped)
        for unscaled in ("", "optimizer", "sparsifier")
        for stepped in ("optimizer", "sparsifier")
    },
}


def check_laws(model: nn.Module, optimizer: Any, sparsifier: Sparsifier) -> None:
    for name, part in sparsifier.parts.items():
        held = [t for t in optimizer.state[part.weight].values() if getattr(t, "shape", None) == part.mask.shape]
        for tensor in (part.weight.detach(), *held):
            assert not tensor[~part.mask].any(), name
    assert sparsifier.nonzeros == sparsifier.active


def difference(a: Kit, b: Kit) -> list[str]:
    """Names of what is not the same bit for bit."""
    odd = [n for n, t in a[0].state_dict().items() if not torch.equal(t, b[0].state_dict()[n])]
    odd += [f"mask of {n}" for n, m in a[2].masks.items() if not torch.equal(m, b[2].masks[n])]
    slots = [o.state_dict()["state"] for o in (a[1], b[1])]
    odd += [
        f"slot {k} of {i}"
        for i, s in slots[0].items()
        for k, t in s.items()
        if not torch.equal(torch.as_tensor(t), torch.as_tensor(slots[1][i][k]))
    ]
    return odd + (["explored"] if a[2].explored != b[2].explored else [])


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("method", METHODS)
def test_every_loop_trains_the_same_weights(method: str, optimizer: str) -> None:
    reference = kit(method, optimizer)
    moved = [reference[2].masks]
    for _ in range(TOTAL):
        by_sparsifier(*reference)
        check_laws(*reference)
        moved.append(reference[2].masks)
    if method not in ("Static", "Magnitude"):
        assert any(not torch.equal(a[n], b[n]) for a, b in itertools.pairwise(moved) for n in a)
    for name, loop in LOOPS.items():
        other = kit(method, optimizer)
        for _ in range(TOTAL):
            loop(*other)
        check_laws(*other)
        assert difference(reference, other) == [], name
        assert other[2].steps == TOTAL, name


def orders() -> Iterator[tuple[str, ...]]:
    """All orders in which the sparsifier is made and three states are loaded."""
    for order in itertools.permutations(("make", "model", "optimizer", "sparsifier")):
        if order.index("make") < order.index("sparsifier"):
            yield order


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("method", METHODS)
def test_states_are_loaded_in_any_order(method: str, optimizer: str) -> None:
    reference = kit(method, optimizer)
    for _ in range(5):
        by_optimizer(*reference)
    saved = [copy.deepcopy(part.state_dict()) for part in reference]
    for _ in range(TOTAL - 5):
        by_optimizer(*reference)
    for order in orders():
        model = network(5)
        held = OPTIMIZERS[optimizer](model.parameters())
        parts: dict[str, Any] = {"model": model, "optimizer": held}
        for what in order:
            if what == "make":
                parts["sparsifier"] = METHODS[method](model, held, density=0.3, total_steps=TOTAL, seed=5)
            else:
                parts[what].load_state_dict(copy.deepcopy(saved[["model", "optimizer", "sparsifier"].index(what)]))
        again = (model, held, parts["sparsifier"])
        for _ in range(TOTAL - 5):
            by_optimizer(*again)
        check_laws(*again)
        assert difference(reference, again) == [], order


def test_a_state_of_the_start_is_loaded_over_the_start() -> None:
    """What construction changed comes back only where nobody loaded the same numbers since."""
    first = kit()
    state, weights = first[2].state_dict(), copy.deepcopy(first[0].state_dict())
    for load_model in (True, False):
        again = kit()
        if load_model:
            again[0].load_state_dict(weights)
        again[2].load_state_dict(state)
        assert torch.equal(again[0][0].weight != 0, state["masks"]["0.weight"])
        by_optimizer(*again)
        assert again[2].nonzeros == again[2].active


@pytest.mark.parametrize("method", METHODS)
def test_lbfgs_scores_after_the_closure(method: str) -> None:
    """The same as with gradients that were there before the step: nothing is scored on stale or missing ones."""
    found = []
    for through in ("sparsifier", "optimizer"):
        model = network()
        optimizer = torch.optim.LBFGS(model.parameters(), lr=0.5, max_iter=4)
        sparsifier = METHODS[method](model, optimizer, density=0.3, total_steps=TOTAL)
        first = float(loss_of(model).detach())
        for _ in range(TOTAL):
            closure = closure_of(model, optimizer)
            (sparsifier if through == "sparsifier" else optimizer).step(closure)
            assert sparsifier.nonzeros == sparsifier.active
        assert float(loss_of(model).detach()) < 0.8 * first
        assert sparsifier.active == round(0.3 * sparsifier.size) or method == "Chase"
        found.append(model.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(found[0].values(), found[1].values(), strict=True))


def test_rigl_with_lbfgs_grows_where_the_gradient_of_the_closure_is_largest() -> None:
    """By autograd: of the free places those with the largest gradient at the weights before the step."""
    model = network()
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=4)
    sparsifier = RigL(model, optimizer, density=0.3, total_steps=TOTAL, plan=Exploration(every=1, until=1.0))
    optimizer.step(closure_of(model, optimizer))
    weight, mask = model[0].weight, sparsifier.masks["0.weight"]
    gradient = torch.autograd.grad(loss_of(model), weight)[0].abs()
    before = copy.deepcopy(model.state_dict())
    optimizer.step(closure_of(model, optimizer))
    grown = sparsifier.masks["0.weight"] & ~mask
    left = ~sparsifier.masks["0.weight"] & ~mask
    assert grown.any()
    assert gradient[grown].min() >= gradient[left].max()
    assert torch.equal(model[0].bias, before["0.bias"])


def test_a_scaler_with_infinite_gradients_leaves_everything_as_it_is() -> None:
    for name in ("SGD", "Adam"):
        model, optimizer, sparsifier = kit("RigL", name)
        scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
        for value, stepped in ((1.0, optimizer), (torch.inf, optimizer), (torch.inf, sparsifier), (1.0, sparsifier)):
            before = copy.deepcopy(model.state_dict())
            sparsifier.zero_grad()
            scaler.scale(loss_of(model) * value).backward()
            scaler.step(stepped)
            scaler.update()
            same = all(torch.equal(t, before[n]) for n, t in model.state_dict().items())
            assert same == (value == torch.inf)
        assert sparsifier.steps == 2
        check_laws(model, optimizer, sparsifier)


def test_the_scaler_does_not_unscale_twice() -> None:
    """One SGD step of size 0.1 on the gradient 1, whoever is unscaled and stepped."""
    for unscaled, stepped in itertools.product(("optimizer", "sparsifier"), repeat=2):
        layer = nn.Linear(1, 1, bias=False)
        nn.init.ones_(layer.weight)
        optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
        who = {"optimizer": optimizer, "sparsifier": Static(layer, optimizer, density=1.0)}
        scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
        scaler.scale(layer(torch.ones(1, 1)).sum()).backward()
        scaler.unscale_(who[unscaled])
        with pytest.raises(RuntimeError, match="already been called"):
            scaler.unscale_(optimizer)
        scaler.step(who[stepped])
        assert float(layer.weight.detach()) == pytest.approx(0.9)
        with pytest.raises(RuntimeError, match="already"):
            scaler.step(who["sparsifier" if stepped == "optimizer" else "optimizer"])


@pytest.mark.parametrize("cleared", [False, True])
@pytest.mark.parametrize("first", ["optimizer", "sparsifier"])
def test_one_step_is_not_taken_twice(first: str, cleared: bool) -> None:
    model, optimizer, sparsifier = kit()
    both = {"optimizer": optimizer, "sparsifier": sparsifier}
    second = both.pop("sparsifier" if first == "optimizer" else "optimizer")
    for _ in range(3):
        sparsifier.zero_grad()
        loss_of(model).backward()
        both[first].step()
        before = copy.deepcopy(model.state_dict())
        if cleared:
            sparsifier.zero_grad()
        with pytest.raises(RuntimeError, match="this step has been taken already"):
            second.step()
        assert all(torch.equal(t, before[n]) for n, t in model.state_dict().items())
    assert sparsifier.steps == 3


def test_an_interrupted_step_leaves_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    model, optimizer, sparsifier = kit("Static", "AdamW")
    for _ in range(2):
        by_optimizer(model, optimizer, sparsifier)
    with monkeypatch.context() as patch:

        def stop(*args: Any, **kwargs: Any) -> None:
            raise KeyboardInterrupt

        patch.setattr(sys.modules["torch.optim.adam"], "adam", stop)
        with pytest.raises(KeyboardInterrupt):
            by_optimizer(model, optimizer, sparsifier)
    assert sparsifier.steps == 2
    by_optimizer(model, optimizer, sparsifier)
    check_laws(model, optimizer, sparsifier)
    assert sparsifier.steps == 3


def test_nonzeros_are_counted() -> None:
    model, optimizer, sparsifier = kit("Static")
    sparsifier.detach()
    by_optimizer(model, optimizer, sparsifier)
    real = sum(int(p.weight.count_nonzero()) for p in sparsifier.parts.values())
    assert sparsifier.nonzeros == real > 2 * sparsifier.active
    with pytest.raises(RuntimeError, match=r"detached from its optimizer: call attach\(\)"):
        sparsifier.step()
    sparsifier.attach()
    by_optimizer(model, optimizer, sparsifier)
    check_laws(model, optimizer, sparsifier)


def test_nothing_stays_behind_after_detach() -> None:
    model, optimizer, sparsifier = kit("Static")
    sparsifier.detach()
    assert not optimizer._optimizer_step_pre_hooks
    assert not optimizer._optimizer_step_post_hooks
    assert Static(model, optimizer, density=0.1).active == round(0.1 * sparsifier.size)


def test_a_model_or_an_optimiser_of_another_sparsifier_is_refused() -> None:
    model, optimizer, sparsifier = kit()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match=r"0.weight is attached to another sparsifier already \(RigL\).*detach\(\)"):
        SET(model, optimizer, density=0.5, total_steps=TOTAL, plan=OFTEN)
    with pytest.raises(ValueError, match="0.weight is attached to another sparsifier"):
        Static(model, torch.optim.SGD(model.parameters()), density=0.5)
    other = network()
    optimizer.add_param_group({"params": list(other.parameters())})
    with pytest.raises(ValueError, match=r"the optimizer is attached to another sparsifier \(RigL\)"):
        Static(other, optimizer, density=0.5)
    assert all(torch.equal(t, before[n]) for n, t in model.state_dict().items())
    assert other[0].weight.all()


def test_a_sparsifier_that_is_gone_is_no_hindrance() -> None:
    """As when a cell of a notebook runs again; the objects hold each other until they are collected."""
    model = network()
    for _ in range(3):
        Static(model, torch.optim.SGD(model.parameters()), density=0.5)
    gc.collect()
    assert Static(model, torch.optim.SGD(model.parameters()), density=0.5).active == 93


def test_a_failed_construction_leaves_no_hook() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters())
    with torch.no_grad():
        model[0].weight[0, 0] = torch.nan
    with pytest.raises(ValueError, match="NaN"):
        Magnitude(model, optimizer, density=0.5)
    assert not optimizer._optimizer_step_pre_hooks
    with torch.no_grad():
        model[0].weight[0, 0] = 1.0
    assert Magnitude(model, optimizer, density=0.5).active == 93


def test_a_plan_without_moves_is_said() -> None:
    for kind in (RigL, SET, SNFS, MEST):
        model = network()
        with pytest.warns(NoUpdateWarning, match="support never moves.*in 50 steps.*smaller `every`, or use Static"):
            kind(model, torch.optim.SGD(model.parameters()), density=0.5, total_steps=50)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = network()
        GradualMagnitude(model, torch.optim.SGD(model.parameters()), density=0.5, total_steps=50)


@pytest.mark.parametrize("method", METHODS)
def test_finish_brings_the_budget(method: str) -> None:
    model, optimizer, sparsifier = kit(method)
    for _ in range(3):
        by_optimizer(model, optimizer, sparsifier)
    sparsifier.finish()
    check_laws(model, optimizer, sparsifier)
    assert sparsifier.active <= round(0.3 * sparsifier.size)
    if method == "Chase":
        assert sum(int(r.sum()) for r in sparsifier.removed.values()) == round(0.25 * 18)
    else:
        assert sparsifier.active == round(0.3 * sparsifier.size)
    masks = sparsifier.masks
    for _ in range(3):
        by_optimizer(model, optimizer, sparsifier)
    assert all(torch.equal(m, masks[n]) for n, m in sparsifier.masks.items())


def test_a_gradual_plan_that_stops_early_says_so() -> None:
    model, optimizer, sparsifier = kit("Gradual")
    by_optimizer(model, optimizer, sparsifier)
    with pytest.warns(UserWarning, match=r"weights are active and the budget is 56.*finish\(\)"):
        sparsifier.detach()


def test_copies_of_all_three_train_on_apart() -> None:
    whole = kit()
    torch.optim.lr_scheduler.StepLR(whole[2], 100)
    by_sparsifier(*whole)
    other = copy.deepcopy(whole)
    for _ in range(4):
        by_sparsifier(*whole)
    assert other[2].steps == 1
    for _ in range(4):
        by_optimizer(*other)
    check_laws(*other)
    assert difference(whole, other) == []


def test_the_wrapper_of_a_trainer_is_opened() -> None:
    class Wrapper(torch.optim.Optimizer):
        def __init__(self, optimizer: torch.optim.Optimizer) -> None:
            self.optimizer = optimizer

        def step(self, closure: Any = None) -> None:
            self.optimizer.step()

    model = network()
    inner = torch.optim.SGD(model.parameters(), lr=0.1)
    sparsifier = Static(model, Wrapper(inner), density=0.3)
    assert sparsifier.optimizer is inner
    loss_of(model).backward()
    Wrapper(inner).step()
    check_laws(model, inner, sparsifier)


def test_a_sparse_model_that_gets_a_new_random_support_is_said() -> None:
    """As when the state of the sparsifier is forgotten in a resume."""
    first = kit("Static")
    weights = copy.deepcopy(first[0].state_dict())
    model = network(3)
    model.load_state_dict(weights)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    sparsifier = Static(model, optimizer, density=0.3, seed=9)
    with pytest.warns(UserWarning, match=r"another support was drawn at random.*load_state_dict\(\)"):
        by_optimizer(model, optimizer, sparsifier)
    by_optimizer(model, optimizer, sparsifier)
    assert sparsifier.steps == 2
    check_laws(model, optimizer, sparsifier)

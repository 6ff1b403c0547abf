"""SET, RigL, SNFS, MEST: one step against hand-computed masks, and laws over a training."""

import math

import pytest
import torch
from torch import Tensor, nn

from sparelu.train.dynamic import MEST, SET, SNFS, RigL
from sparelu.train.sparsifier.prunable import PrunableWeight
from sparelu.train.sparsifier.scores import by_magnitude_of_its_sign
from sparelu.train.sparsifier.sparsifier import Sparsifier, UpdateRule
from sparelu.train.sparsifier.update_schedules import ITOP_RIGL, ITOP_SET, Exploration, Gradual, Update
from sparelu.train.static import GradualMagnitude, Magnitude, Static

HALF = Exploration(every=1, fraction=0.5, until=1.0, begin=0)
START = torch.tensor([[3.0, 9, 9, 9], [9, -0.1, 9, 9], [9, 9, 0.2, 9], [9, 9, 9, -2.0]])
GRADIENT = torch.full((4, 4), 0.1)
GRADIENT[0, 0], GRADIENT[1, 1], GRADIENT[0, 1], GRADIENT[2, 2] = 100.0, 5.0, -4.0, 0.5


def four() -> tuple[nn.Linear, torch.optim.SGD, Tensor]:
    """A 4 x 4 layer whose diagonal lives, with momentum 7 there and a gradient that does not depend on it."""
    layer = nn.Linear(4, 4, bias=False)
    layer.weight.data = START.clone()
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.5, momentum=0.9)
    optimizer.state[layer.weight]["momentum_buffer"] = torch.full((4, 4), 7.0)
    return layer, optimizer, torch.eye(4, dtype=torch.bool)


def backward(layer: nn.Linear) -> None:
    layer.zero_grad()
    (layer.weight * GRADIENT).sum().backward()


def test_one_step_of_rigl() -> None:
    """Two of four are dropped, (1,1) and (2,2). The largest gradients off the kept are at (1,1) and (0,1).

    So (1,1) returns with its value and momentum, (0,1) is new with 0 and 0, and no weight takes a step.
    """
    layer, optimizer, diagonal = four()
    sparsifier = RigL(layer, optimizer, masks={"weight": diagonal}, total_steps=10, plan=HALF)
    backward(layer)
    sparsifier.step()
    mask = torch.zeros(4, 4, dtype=torch.bool)
    for place in ((0, 0), (3, 3), (1, 1), (0, 1)):
        mask[place] = True
    weight, momentum = torch.zeros(4, 4), torch.zeros(4, 4)
    weight[0, 0], weight[3, 3], weight[1, 1] = 3.0, -2.0, -0.1
    momentum[0, 0] = momentum[3, 3] = momentum[1, 1] = 7.0
    assert torch.equal(sparsifier.masks["weight"], mask)
    assert torch.equal(layer.weight.data, weight)
    assert torch.equal(optimizer.state[layer.weight]["momentum_buffer"], momentum)
    assert sparsifier.explored == 5 / 16


def test_the_step_after_an_update_is_the_optimisers() -> None:
    """The new weight (0,1) moves by -lr times its gradient alone, since its momentum is 0."""
    layer, optimizer, diagonal = four()
    plan = Exploration(every=2, fraction=0.5, until=1.0, begin=0)
    sparsifier = RigL(layer, optimizer, masks={"weight": diagonal}, total_steps=10, plan=plan)
    for _ in range(2):
        backward(layer)
        sparsifier.step()
    assert float(layer.weight.detach()[0, 1]) == -0.5 * -4.0
    assert float(layer.weight[0, 0].detach()) == pytest.approx(3.0 - 0.5 * (0.9 * 7 + 100))
    assert float(layer.weight[2, 2].detach()) == 0


def test_set_moves_after_the_step_of_the_optimiser() -> None:
    """Diagonal after one SGD step without momentum: 3 - 50, -0.1 - 2.5, 0.2 - 0.25, -2 - 0.05: (1,1) is kept now."""
    layer, _, diagonal = four()
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.5)
    sparsifier = SET(layer, optimizer, masks={"weight": diagonal}, total_steps=10, plan=HALF)
    backward(layer)
    sparsifier.step()
    assert sparsifier.nonzeros == 4
    assert layer.weight[0, 0] == -47.0
    assert layer.weight[1, 1].item() == pytest.approx(-2.6)
    assert layer.weight.count_nonzero() <= 4


def test_snfs_grows_by_the_running_mean() -> None:
    """Means 0.1 (1, 0, 0), then 0.09, 0.1, 0, then 0.081, 0.09, 0.085: the second grows, not the largest gradient."""
    layer = nn.Linear(3, 1, bias=False)
    optimizer = torch.optim.SGD(layer.parameters(), lr=1e-6)
    mask = torch.tensor([[True, False, False]])
    plan = Exploration(every=2, fraction=1.0, last=1.0, until=1.0)
    sparsifier = SNFS(layer, optimizer, masks={"weight": mask}, total_steps=10, plan=plan)
    for gradient in ([1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.85]):
        layer.weight.grad = torch.tensor([gradient])
        sparsifier.step()
    assert sparsifier.masks["weight"].tolist() == [[False, True, False]]
    assert sparsifier.parts["weight"].memory["mean"][0].tolist() == pytest.approx([0.081, 0.09, 0.085])


def test_mest_lives_beyond_the_budget_between_visits_only() -> None:
    layer = nn.Linear(10, 10, bias=False)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.01)
    plan = Exploration(every=2, fraction=0.5, until=0.5, soft=True, begin=0)
    sparsifier = MEST(layer, optimizer, nonzeros=20, total_steps=12, plan=plan)
    counts = []
    for _ in range(12):
        layer.weight.grad = torch.ones_like(layer.weight)
        sparsifier.step()
        counts.append(sparsifier.nonzeros)
    shares = [0.25 * (1 + math.cos(math.pi * t / 6)) for t in (0, 2, 4)]
    grown = [20 + int(20 * f) for f in shares]
    assert counts == [grown[0]] * 2 + [grown[1]] * 2 + [grown[2]] * 2 + [20] * 6


def test_mest_drops_by_weight_and_gradient() -> None:
    """|w| + |g| is 1 + 0, 0.1 + 5 and 0.5 + 0.1 of the living; one of three goes: the last."""
    layer = nn.Linear(4, 1, bias=False)
    layer.weight.data = torch.tensor([[1.0, 0.1, 0.5, 0.0]])
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.0)
    mask = torch.tensor([[True, True, True, False]])
    plan = Exploration(every=1, fraction=0.34, until=1.0, begin=0)
    sparsifier = MEST(layer, optimizer, masks={"weight": mask}, total_steps=9, plan=plan)
    layer.weight.grad = torch.tensor([[0.0, 5.0, 0.1, 0.0]])
    sparsifier.step()
    kept = sparsifier.masks["weight"][0]
    assert kept[:2].all()
    assert int(kept.sum()) == 3


def test_signs_are_dropped_in_equal_shares() -> None:
    """Of four negative and two positive weights, the half nearest to zero on each side goes: two and one."""
    layer = nn.Linear(7, 1, bias=False)
    layer.weight.data = torch.tensor([[-4.0, -3.0, -2.0, -1.0, 10.0, 20.0, 0.0]])
    part = PrunableWeight("weight", layer, layer.weight)
    part.keep(torch.tensor([[True] * 6 + [False]]))
    score = by_magnitude_of_its_sign(part, torch.Generator())[0, :6]
    assert sorted(score.argsort()[:3].tolist()) == [2, 3, 4]


def test_a_method_of_ones_own_is_two_scores_and_a_plan() -> None:
    """Grow where the column index is largest; the smaller weight of each sign goes: 1 of (1, 2) and -3 of (-3, -4)."""
    layer = nn.Linear(6, 1, bias=False)
    layer.weight.data = torch.tensor([[1.0, 2.0, -3.0, -4.0, 9.0, 9.0]])
    mask = torch.tensor([[True] * 4 + [False] * 2])

    def rightmost(part: PrunableWeight, generator: torch.Generator) -> Tensor:
        return torch.arange(6.0).reshape(1, 6)

    rule = UpdateRule(by_magnitude_of_its_sign, rightmost, rightmost)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.0)
    sparsifier = Sparsifier(layer, optimizer, rule=rule, plan=HALF, total_steps=9, masks={"weight": mask})
    layer.weight.grad = torch.ones(1, 6)
    sparsifier.step()
    assert layer.weight.tolist() == [[0, 2, 0, -4, 0, 0]]
    assert sparsifier.masks["weight"].tolist() == [[False, True, False, True, True, True]]


def test_exploration_follows_half_a_cosine_to_its_end() -> None:
    plan = Exploration(every=100, fraction=0.3, until=0.75, begin=0)
    assert plan.move(0, 40_000, 1000, 5000) == Update(700, 300)
    assert plan.move(15_000, 40_000, 1000, 5000) == Update(850, 150)
    assert plan.move(30_000, 40_000, 1000, 5000) is None
    assert plan.move(30_100, 40_000, 1000, 5000) is None
    assert Exploration().move(0, 40_000, 1000, 5000) is None
    assert plan.move(150, 40_000, 1000, 5000) is None
    assert (ITOP_SET.every, ITOP_RIGL.every, ITOP_SET.last, ITOP_RIGL.until) == (1500, 4000, 0.005, 1.0)


def test_gradual_pruning_ends_at_the_budget() -> None:
    """At half of the way 1 - (1/2)^3 = 7/8 of the weights to go have gone."""
    plan = Gradual(every=10, begin=0.1, until=0.9)
    assert plan.move(50, 100, 200, 1000) == Update(300, 0)
    assert plan.move(90, 100, 200, 1000) == Update(200, 0)
    assert plan.move(91, 100, 200, 1000) is plan.move(9, 100, 200, 1000) is None
    assert Gradual(every=7, until=1.0).move(99, 100, 200, 1000) == Update(200, 0)


@pytest.mark.parametrize("plan", [Exploration, Gradual])
def test_plans_refuse_what_makes_no_sense(plan: type) -> None:
    with pytest.raises(ValueError, match="every >= 1"):
        plan(every=0)


def test_magnitude_keeps_the_largest_of_all_layers() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    model[0].weight.data = torch.tensor([[1.0, -5.0], [0.5, 2.0]])
    model[1].weight.data = torch.tensor([[-3.0, 0.1]])
    Magnitude(model, torch.optim.SGD(model.parameters(), lr=0.1), nonzeros=3, allocation="global")
    assert model[0].weight.tolist() == [[0, -5], [0, 2]]
    assert model[1].weight.tolist() == [[-3, 0]]


def learned(kind: type, seed: int = 0, **choices: object) -> tuple[float, float]:
    """Final loss and R_s of a small teacher-student regression."""
    torch.manual_seed(seed)
    x = torch.randn(512, 20)
    y = torch.relu(x[:, :3] @ torch.tensor([[1.0, -2.0], [2.0, 1.0], [-1.0, 1.0]])).sum(1, keepdim=True)
    model = nn.Sequential(nn.Linear(20, 30), nn.ReLU(), nn.Linear(30, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    sparsifier = kind(model, optimizer, density=0.06, total_steps=400, seed=seed, **choices)
    for _ in range(400):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x), y)
        loss.backward()
        sparsifier.step()
    assert sparsifier.nonzeros == round(0.06 * 630)
    return float(nn.functional.mse_loss(model(x), y).detach()), sparsifier.explored


def test_what_moves_learns_more_than_what_stays() -> None:
    plan = Exploration(every=10)
    still, visited = learned(Static)
    assert visited == round(0.06 * 630) / 630
    for kind in (SET, RigL, SNFS, MEST):
        choices = {"plan": Exploration(every=10, soft=True)} if kind is MEST else {"plan": plan}
        loss, reached = learned(kind, **choices)
        assert loss < still
        assert visited < reached <= 1
    assert learned(GradualMagnitude, plan=Gradual(every=10))[0] < still

"""Iterative magnitude pruning on modules: sizes, rewinding, and who survives."""

import copy

import pytest
import torch
from torch import Tensor, nn

from sparelu.train.lottery_ticket import steps_of, winning_tickets

TARGET = torch.tensor([[5.0, 0.1, -4.0, 3.0, 0.2]])


def towards_target(calls: list[tuple[int, int | None]]) -> object:
    """Each training step moves the living weights a tenth of the way to TARGET; 30 steps are all."""

    def train(model: nn.Module, masks: dict[str, Tensor], start: int, stop: int | None) -> None:
        calls.append((start, stop))
        for _ in range(start, 30 if stop is None else stop):
            model.weight.data += 0.1 * (TARGET - model.weight.data) * masks["weight"]

    return train


def test_tickets_are_the_early_weights_of_the_late_survivors() -> None:
    """5, 4 and 3 weights; at step 2 a weight is w0 + 0.19 (target - w0); the three largest targets survive."""
    torch.manual_seed(0)
    model = nn.Linear(5, 1, bias=False)
    first = model.weight.detach().clone()
    calls: list[tuple[int, int | None]] = []
    tickets = list(winning_tickets(model, towards_target(calls), nonzeros=3, rewind="1ep", steps_per_epoch=2))
    assert calls == [(0, 2), (2, None), (2, None)]
    assert [int(masks["weight"].sum()) for _, masks in tickets] == [4, 3]
    ticket, masks = tickets[-1]
    assert masks["weight"].tolist() == [[True, False, True, True, False]]
    early = first + 0.19 * (TARGET - first)
    assert torch.allclose(ticket.weight.detach(), early * masks["weight"], rtol=1e-6)
    assert torch.allclose(model.weight.detach(), early, rtol=1e-6)


def test_layers_reach_their_own_numbers() -> None:
    model = nn.Sequential(nn.Linear(10, 10), nn.Linear(10, 2))
    before = copy.deepcopy(model.state_dict())
    tickets = list(winning_tickets(model, lambda *_: None, density=0.1, allocation="erk"))
    final = tickets[-1][1]
    assert sum(int(m.sum()) for m in final.values()) == 12
    assert int(final["0.weight"].sum()) < int(tickets[0][1]["0.weight"].sum())
    assert all(torch.equal(v, before[n]) for n, v in model.state_dict().items())


def test_units_of_time() -> None:
    assert (steps_of("2ep", 300), steps_of("500it", 300), steps_of(7, 300)) == (600, 500, 7)
    with pytest.raises(ValueError, match="'2 epochs' is no time: write epochs as '2ep'"):
        steps_of("2 epochs", 1)


def test_bad_rates() -> None:
    with pytest.raises(ValueError, match="rate must lie between 0 and 1"):
        next(winning_tickets(nn.Linear(2, 2), lambda *_: None, nonzeros=2, rate=1.0))

"""Which weights take part: names, patterns, what is left out and added, and a summary that says why."""

import warnings
from typing import Any

import pytest
import torch
from torch import nn

from sparelu.train import RigL, Static
from sparelu.train.sparsifier.prunable import prunable_weights
from sparelu.train.sparsifier.update_schedules import Exploration

transformers = pytest.importorskip("transformers")


class Model(nn.Module):
    """Two blocks, a head, an embedding, a bilinear layer and a raw parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(7, 4)
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4)) for _ in range(2))
        self.pair = nn.Bilinear(4, 4, 3)
        self.head = nn.Linear(3, 2)
        self.mix = nn.Parameter(torch.ones(3, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.words(x)
        for block in self.blocks:
            h = block(h)
        return self.head(self.pair(h, h) @ self.mix)


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.1)


ALL = ["blocks.0.0.weight", "blocks.1.0.weight", "pair.weight", "head.weight"]


@pytest.mark.parametrize(
    ("choices", "wanted"),
    [
        ({}, ALL),
        ({"layers": "blocks"}, ALL[:2]),
        ({"layers": ["head", "blocks.1"]}, [ALL[1], ALL[3]]),
        ({"layers": "blocks.*.0"}, ALL[:2]),
        ({"layers": ["words"]}, ["words.weight"]),
        ({"layers": lambda name, module: isinstance(module, nn.Bilinear)}, ["pair.weight"]),
        ({"exclude": "head"}, ALL[:3]),
        ({"exclude": ["blocks", "pair"]}, ["head.weight"]),
        ({"exclude": lambda name, module: name == "pair"}, [*ALL[:2], ALL[3]]),
        ({"parameters": "mix"}, [*ALL, "mix"]),
        ({"layers": "head", "parameters": ["mix", "words.*"]}, ["head.weight", "mix", "words.weight"]),
    ],
)
def test_weights_are_named(choices: dict[str, Any], wanted: list[str]) -> None:
    assert list(prunable_weights(Model(), **choices)) == wanted
    model = Model()
    sparsifier = Static(model, sgd(model), density=0.5, **choices)
    assert list(sparsifier.masks) == wanted
    assert sparsifier.nonzeros == round(0.5 * sparsifier.size)
    model(torch.tensor([[1, 2, 3]])).sum().backward()
    sparsifier.step()
    assert sparsifier.nonzeros == sparsifier.active


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"layers": "heda"}, "layers='heda' is the name of nothing in the model; the nearest is 'head'"),
        ({"exclude": ["head", "blocks.7"]}, "exclude='blocks.7' is the name of nothing.*'blocks.[01]'"),
        ({"parameters": "mixx"}, "parameters='mixx' is the name of nothing in the model; the nearest is 'mix'"),
        ({"layers": "blocks.0.1"}, "`layers` chooses no layer"),
    ],
)
def test_names_of_nothing_are_refused(choices: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        prunable_weights(Model(), **choices)


def test_densities_by_name() -> None:
    """By hand: a quarter of 16 + 16, half of 48, all of 6."""
    model = Model()
    sparsifier = RigL(
        model, sgd(model), density={"blocks.*": 0.25, "pair": 0.5, "*": 1.0}, total_steps=9, plan=Exploration(every=2)
    )
    assert [int(m.sum()) for m in sparsifier.masks.values()] == [4, 4, 24, 6]
    for _ in range(6):
        sparsifier.zero_grad()
        model(torch.tensor([[1, 2, 3]])).tanh().mean().backward()
        sparsifier.step()
    assert [int(m.sum()) for m in sparsifier.masks.values()] == [4, 4, 24, 6]
    sparsifier.detach()
    for density, message in (
        ({"pair": 0.5}, "no entry for blocks.0.0.weight"),
        ({"*": 0.5, "pair": 0.1}, "entry for 'pair', which is no weight, or has one before"),
        ({"*": 0.0}, "above 0 and at most 1, got 0.0 for blocks.0.0.weight"),
    ):
        with pytest.raises(ValueError, match=message):
            Static(model, sgd(model), density=density)


def test_the_summary_says_what_is_dense_and_why() -> None:
    model = Model()
    model.blocks[0].requires_grad_(False)
    sparsifier = Static(model, sgd(model), nonzeros=30, exclude="head")
    reasons = {r.name: r.reason for r in sparsifier.rows()}
    assert len(reasons) == len(list(model.parameters()))
    assert [n for n, r in reasons.items() if not r] == ["blocks.1.0.weight", "pair.weight"]
    assert reasons["blocks.0.0.weight"] == "frozen"
    assert reasons["head.weight"] == "left out by the choice of layers"
    assert reasons["words.weight"] == "not pruned unless it is named: parameters=['words.weight']"
    assert reasons["mix"] == "not pruned unless it is named: parameters=['mix']"
    assert "a vector" in reasons["head.bias"]
    text = sparsifier.summary().splitlines()
    assert len(text) == len(reasons) + 3
    assert text[-2].split()[:3] == ["prunable", "30", "64"]
    dense = sum(p.numel() for p in model.parameters()) - 64
    assert repr(sparsifier) == (
        f"Static(30 of 64 weights active in 2 layers, budget 30; {dense} other parameters dense; step 0 of 1)"
    )


def test_a_layer_unfrozen_later_is_named_once() -> None:
    model = Model()
    model.head.requires_grad_(False)
    sparsifier = Static(model, sgd(model), density=0.5)
    model.head.requires_grad_(True)
    for expected in (True, False):
        model(torch.tensor([[1, 2]])).sum().backward()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            sparsifier.step()
        assert ["head.weight was frozen" in str(w.message) for w in caught] == [True] * expected


def test_the_linear_layers_of_gpt2_are_pruned() -> None:
    """Weights are (inputs, outputs) there, and the head shares its weight with the embedding: both stay dense."""
    config = transformers.GPT2Config(vocab_size=11, n_positions=8, n_embd=8, n_layer=1, n_head=2)
    torch.manual_seed(0)
    model = transformers.GPT2LMHeadModel(config)
    with pytest.raises(ValueError, match=r"shares its memory with .*exclude"):
        prunable_weights(model)
    before = model.transformer.h[0].attn.c_attn.weight.detach().clone()
    sparsifier = Static(model, sgd(model), density=0.25, exclude="lm_head", allocation="uniform")
    assert [n.split("h.0.")[-1] for n in sparsifier.masks] == [
        *("attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight"),
    ]
    mask = sparsifier.masks["transformer.h.0.attn.c_attn.weight"]
    after = model.transformer.h[0].attn.c_attn.weight.detach()
    scale = (8 / mask.sum(0).clamp(min=1)).sqrt()  # for each output, over its 8 inputs
    torch.testing.assert_close(after, before * mask * scale)
    sparsifier.detach()
    tied = Static(model, sgd(model), density=0.25, parameters="transformer.wte.weight")
    assert "transformer.wte.weight" in tied.masks or "lm_head.weight" in tied.masks


def test_sharded_weights_are_refused_by_name(tmp_path: Any) -> None:
    from torch.distributed.fsdp import fully_shard

    torch.distributed.init_process_group("gloo", f"file://{tmp_path}/meet", rank=0, world_size=1)
    try:
        model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            mesh = torch.distributed.device_mesh.init_device_mesh("cpu", (1,))
            fully_shard(model, mesh=mesh)
        with pytest.raises(ValueError, match=r"weight of 0 \(.*Linear\) is a DTensor: it is sharded.*FSDP"):
            Static(model, sgd(model), density=0.5)
    finally:
        torch.distributed.destroy_process_group()

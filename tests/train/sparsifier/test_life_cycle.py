"""The engine inside torch.compile, DistributedDataParallel and mixed precision."""

import warnings
from pathlib import Path

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from sparelu.train.dynamic import SET, RigL
from sparelu.train.sparsifier.sparsifier import Sparsifier
from sparelu.train.sparsifier.update_schedules import Exploration

OFTEN = Exploration(every=2, until=1.0)


def perceptron() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 12), nn.ReLU(), nn.Linear(12, 3))


def exact(sparsifier: Sparsifier) -> bool:
    parts = sparsifier.parts.values()
    return all(p.weight.detach()[~p.mask].count_nonzero() == 0 for p in parts)


def test_compiled_models() -> None:
    """The names are those of the module inside, so that a state goes from one to the other."""
    x = torch.randn(16, 8)
    masks = []
    for wrap in (lambda m: m, lambda m: torch.compile(m, backend="eager")):
        model = perceptron()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        compiled = wrap(model)
        sparsifier = RigL(compiled, optimizer, density=0.3, total_steps=10, plan=OFTEN)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the compiler's own
            for _ in range(6):
                optimizer.zero_grad()
                compiled(x).square().mean().backward()
                sparsifier.step()
        assert exact(sparsifier)
        masks.append(sparsifier.masks)
    assert list(masks[0]) == list(masks[1]) == ["0.weight", "2.weight"]
    assert all(torch.equal(masks[0][n], masks[1][n]) for n in masks[0])


def test_autocast_in_bfloat16() -> None:
    model = perceptron()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    sparsifier = RigL(model, optimizer, nonzeros=30, total_steps=20, plan=OFTEN)
    x, losses = torch.randn(64, 8), []
    for _ in range(20):
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            loss = (model(x) - 1).square().mean()
        loss.backward()
        sparsifier.step()
        losses.append(float(loss.detach()))
    assert exact(sparsifier)
    assert sparsifier.nonzeros == 30
    assert losses[-1] < losses[0]


def test_a_model_in_bfloat16() -> None:
    model = perceptron().to(torch.bfloat16)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    sparsifier = SET(model, optimizer, nonzeros=30, total_steps=9, plan=OFTEN)
    for _ in range(5):
        optimizer.zero_grad()
        model(torch.ones(4, 8, dtype=torch.bfloat16)).sum().backward()
        sparsifier.step()
    assert exact(sparsifier)
    assert sparsifier.nonzeros == 30


def test_the_gradient_scaler_steps_the_sparsifier() -> None:
    """An infinite gradient makes the scaler leave the step out: neither weights nor the count of steps move."""
    model = perceptron()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    sparsifier = RigL(model, optimizer, nonzeros=30, total_steps=9, plan=OFTEN)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    for value in (1.0, torch.inf, 1.0):
        optimizer.zero_grad()
        scaler.scale(model(torch.ones(4, 8)).sum() * value).backward()
        scaler.step(sparsifier)
        scaler.update()
    assert sparsifier.steps == 2
    assert exact(sparsifier)
    assert all(bool(torch.isfinite(p).all()) for p in model.parameters())


def one_process(rank: int, folder: str) -> None:
    """Train on rows and with a seed that differ from process to process."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=2)
    for kind in (SET, RigL):
        model = DistributedDataParallel(perceptron())
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        sparsifier = kind(model, optimizer, nonzeros=30, total_steps=10, plan=OFTEN, seed=rank)
        rows = torch.Generator().manual_seed(rank)
        for _ in range(8):
            optimizer.zero_grad()
            model(torch.randn(16, 8, generator=rows)).square().mean().backward()
            sparsifier.step()
        saved = {"state": sparsifier.state_dict(), "model": model.module.state_dict()}
        torch.save(saved, f"{folder}/{kind.__name__}{rank}")
    torch.distributed.destroy_process_group()


def test_two_processes_have_the_same_masks(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(one_process, (str(tmp_path),), nprocs=2)
    for kind in (SET, RigL):
        a, b = (torch.load(tmp_path / f"{kind.__name__}{rank}", weights_only=True) for rank in (0, 1))
        assert a["state"]["steps"] == 8
        for name, mask in a["state"]["masks"].items():
            assert torch.equal(mask, b["state"]["masks"][name])
            assert a["model"][name][~mask].count_nonzero() == 0
        assert all(torch.equal(v, b["model"][n]) for n, v in a["model"].items())
        assert sum(int(m.sum()) for m in a["state"]["masks"].values()) == 30

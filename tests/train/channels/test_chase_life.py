"""Chase on two processes, saved, copied, and on networks of many kinds; what it may not touch."""

import copy
import io
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from sparelu.train.analysis.convnets import small_resnet
from sparelu.train.channels.chase import Chase, Removal, SoftBound

STEPS = 24
PLAN, REMOVAL = SoftBound(every=4), Removal(every=4)
IMAGES = (3, 8, 8)


class Mobile(nn.Module):
    """A depthwise convolution inside a residual block."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3)
        self.expand, self.norm = nn.Conv2d(8, 12, 1), nn.BatchNorm2d(12)
        self.depthwise = nn.Conv2d(12, 12, 3, padding=1, groups=12)
        self.project, self.head = nn.Conv2d(12, 8, 1), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.first(x))
        x = x + self.project(torch.relu(self.depthwise(torch.relu(self.norm(self.expand(x))))))
        return self.head(x.mean((2, 3)))


class Joined(nn.Module):
    """Two branches side by side: what is concatenated is kept whole, what comes before it is not."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3)
        self.left, self.right = nn.Conv2d(8, 4, 1), nn.Conv2d(8, 4, 1)
        self.last, self.head = nn.Conv2d(8, 6, 3), nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(x))
        x = torch.relu(torch.cat([self.left(x), self.right(x)], 1))
        return self.head(torch.relu(self.last(x)).mean((2, 3)))


NETWORKS: dict[str, tuple[Callable[[], nn.Module], set[str]]] = {
    "residual": (lambda: small_resnet(6, 1, classes=5), {"3.conv1", "4.conv1", "5.conv1"}),
    "mobile": (Mobile, {"expand"}),
    "joined": (Joined, {"stem", "last"}),
    "grouped": (
        lambda: nn.Sequential(
            *(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=2), nn.ReLU(), nn.Conv2d(8, 10, 1), nn.ReLU()),
            *(nn.Flatten(), nn.Linear(160, 9), nn.ReLU(), nn.Linear(9, 5)),
        ),
        {"4", "7"},
    ),
    "transposed": (
        lambda: nn.Sequential(
            *(nn.ConvTranspose2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU(), nn.ConvTranspose2d(8, 6, 2)),
            *(nn.Tanh(), nn.Conv2d(6, 4, 3, stride=3), nn.Flatten(), nn.Linear(144, 5)),
        ),
        {"0", "3", "5"},
    ),
}
"""And the first layers of the streams that lose channels."""


def built(network: str, seed: int = 0) -> tuple[nn.Module, torch.optim.Optimizer, Chase]:
    torch.manual_seed(0)
    model = NETWORKS[network][0]()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    choices = {"density": 0.4, "channel_sparsity": 0.4, "total_steps": STEPS, "seed": seed}
    return model, optimizer, Chase(model, optimizer, plan=PLAN, removal=REMOVAL, **choices)


def train(model: nn.Module, optimizer: torch.optim.Optimizer, chase: Chase, steps: int, seed: int = 0) -> None:
    for _ in range(steps):
        g = torch.Generator().manual_seed(1000 * seed + chase.steps)
        x, y = torch.randn(8, *IMAGES, generator=g), torch.randint(5, (8,), generator=g)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        chase.step()


@pytest.mark.parametrize("network", NETWORKS)
def test_the_smaller_model_equals_the_masked_one(network: str) -> None:
    model, optimizer, chase = built(network)
    assert set(chase.removed) == NETWORKS[network][1]
    train(model, optimizer, chase, STEPS)
    channels = sum(len(r) for r in chase.removed.values())
    assert sum(int(r.sum()) for r in chase.removed.values()) == channels - round(0.6 * channels)
    x, small = torch.randn(16, *IMAGES), chase.shrink()
    assert sum(p.numel() for p in small.parameters()) < sum(p.numel() for p in model.parameters())
    for training in (False, True):
        difference = model.train(training)(x) - small.train(training)(x)
        assert float(difference.detach().abs().max()) < 1e-5


def test_a_network_of_concatenations_alone_is_refused_by_name() -> None:
    class Side(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left, self.right, self.head = nn.Linear(4, 3), nn.Linear(4, 3), nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(torch.relu(torch.cat([self.left(x), self.right(x)], 1)))

    model = Side()
    with pytest.raises(ValueError, match="left: cat may mix its channels or count them; right: cat may mix"):
        Chase(model, torch.optim.SGD(model.parameters(), lr=0.1), density=0.5, total_steps=9)


@pytest.mark.parametrize("again", [copy.deepcopy, lambda parts: pickle.loads(pickle.dumps(parts))])
def test_a_copy_in_the_middle_trains_on_as_the_original_does(again: Callable) -> None:
    parts = built("residual")
    train(*parts, 10)
    other = again(parts)
    train(*parts, STEPS - 10)
    assert other[2].steps == 10
    train(*other, STEPS - 10)
    assert all(
        torch.equal(a, b) for a, b in zip(parts[0].state_dict().values(), other[0].state_dict().values(), strict=True)
    )
    assert all(torch.equal(r, other[2].removed[n]) for n, r in parts[2].removed.items())


def test_the_state_holds_what_is_removed_as_plain_tensors() -> None:
    parts = built("residual")
    train(*parts, 16)
    file = io.BytesIO()
    torch.save(parts[2].state_dict(), file)
    file.seek(0)
    fresh = built("residual", seed=3)
    assert not any(r.any() for r in fresh[2].removed.values())
    fresh[2].load_state_dict(torch.load(file, weights_only=True))
    assert all(torch.equal(r, fresh[2].removed[n]) for n, r in parts[2].removed.items())
    assert any(r.any() for r in fresh[2].removed.values())


def one_process(rank: int, folder: str) -> None:
    """Rows and the seed of the first masks differ from process to process."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=2)
    torch.manual_seed(0)
    inner = small_resnet(4, 1, classes=5)
    model = DistributedDataParallel(inner)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    choices = {"nonzeros": 500, "channel_sparsity": 0.5, "total_steps": STEPS, "seed": rank}
    chase = Chase(model, optimizer, plan=PLAN, removal=REMOVAL, **choices)
    train(model, optimizer, chase, STEPS, seed=rank)
    small = chase.shrink()
    saved = {"state": chase.state_dict(), "model": inner.state_dict(), "small": small.state_dict()}
    torch.save(saved | {"removed": chase.removed}, f"{folder}/{rank}")
    torch.distributed.destroy_process_group()


def test_two_processes_have_the_same_masks_and_lose_the_same_channels(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(one_process, (str(tmp_path),), nprocs=2)
    a, b = (torch.load(tmp_path / str(rank), weights_only=True) for rank in (0, 1))
    assert sum(int(r.sum()) for r in a["removed"].values()) == (4 + 8 + 16) // 2
    assert sum(int(m.sum()) for m in a["state"]["masks"].values()) == 500
    for part in ("removed", "small"):
        assert all(torch.equal(t, b[part][n]) for n, t in a[part].items() if "running" not in n)
    for name, mask in a["state"]["masks"].items():
        assert torch.equal(mask, b["state"]["masks"][name])
        assert a["model"][name][~mask].count_nonzero() == 0
        assert torch.equal(a["model"][name], b["model"][name])

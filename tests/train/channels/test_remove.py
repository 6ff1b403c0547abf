"""The smaller module against the larger one whose channels nobody reads; what may not be removed is named."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from sparelu.train.analysis.convnets import small_conv, small_resnet
from sparelu.train.channels.channel_groups import channel_groups
from sparelu.train.channels.remove import remove_channels, unread_channels


class Block(nn.Module):
    """A residual block with a depthwise convolution, as in mobile networks."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.expand, self.norm = nn.Conv2d(channels, 6, 1), nn.BatchNorm2d(6)
        self.depthwise = nn.Conv2d(6, 6, 3, padding=1, groups=6)
        self.project = nn.Conv2d(6, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.project(nn.functional.relu6(self.depthwise(torch.relu(self.norm(self.expand(x))))))


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "plain": (lambda: small_conv(8), (3, 16, 16)),
    "residual": (lambda: small_resnet(8, 2), (3, 16, 16)),
    "mobile": (
        lambda: nn.Sequential(
            nn.Conv2d(3, 8, 3), Block(8), Block(8), nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(8, 4)
        ),
        (3, 9, 9),
    ),
    "flattened": (
        lambda: nn.Sequential(
            *(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6, affine=False), nn.ReLU(), nn.Conv2d(6, 5, 3), nn.Sigmoid()),
            *(nn.Flatten(), nn.BatchNorm1d(5 * 4), nn.Linear(5 * 4, 9), nn.ReLU(), nn.Linear(9, 4)),
        ),
        (3, 6, 6),
    ),
    "perceptron": (
        lambda: nn.Sequential(nn.Linear(5, 9), nn.BatchNorm1d(9), nn.ReLU(), nn.Linear(9, 7), nn.Linear(7, 2)),
        (5,),
    ),
    "one dimension": (
        lambda: nn.Sequential(
            *(nn.Conv1d(2, 6, 3), nn.InstanceNorm1d(6, affine=True, track_running_stats=True), nn.ReLU()),
            *(nn.AvgPool1d(2), nn.Conv1d(6, 3, 2)),
        ),
        (2, 12),
    ),
    "transposed": (
        lambda: nn.Sequential(
            *(nn.ConvTranspose2d(3, 6, 3, stride=2), nn.BatchNorm2d(6), nn.ReLU()),
            *(nn.ConvTranspose2d(6, 5, 2), nn.Tanh(), nn.Conv2d(5, 2, 2)),
        ),
        (3, 4, 4),
    ),
    "three dimensions": (
        lambda: nn.Sequential(nn.Conv3d(2, 6, 2), nn.BatchNorm3d(6), nn.ReLU(), nn.Conv3d(6, 2, 2)),
        (2, 5, 4, 4),
    ),
}


def deafened(network: str, seed: int, kind: torch.dtype = torch.float32) -> tuple[nn.Module, Tensor, dict[str, Tensor]]:
    """Random parameters and statistics, and for half of the channels of each stream readers of 0 only."""
    torch.manual_seed(seed)
    make, shape = NETWORKS[network]
    model = make().to(kind)
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.is_floating_point():
            tensor.data = torch.rand_like(tensor) + (0.1 if tensor.ndim == 1 else -0.5)
    deaf = {}
    for name, stream in channel_groups(model).items():
        if not stream.kept:
            deaf[name] = torch.randperm(stream.width) < stream.width // 2
            for place in stream.readers:
                weight = model.get_submodule(place.module).weight.detach()
                weight.movedim(place.axis, 0)[deaf[name].repeat_interleave(place.block)] = 0
    return model, torch.randn(4, *shape, dtype=kind), deaf


def sizes(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(("kind", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_the_smaller_model_computes_the_same(network: str, training: bool, kind: torch.dtype, tolerance: float) -> None:
    for seed in range(3):
        model, x, deaf = deafened(network, seed, kind)
        small = remove_channels(model, deaf)
        before, after = (m.train(training)(x).detach() for m in (model, small))
        assert float((before - after).abs().max()) <= tolerance * max(1.0, float(before.abs().max()))
        assert sizes(small) < sizes(model)
        assert {n: int((~d).sum()) for n, d in deaf.items()} == {
            n: s.width for n, s in channel_groups(small).items() if n in deaf
        }


@pytest.mark.parametrize("network", NETWORKS)
def test_what_nobody_reads_is_found(network: str) -> None:
    model, x, deaf = deafened(network, 3)
    found = unread_channels(model)
    assert found.keys() == deaf.keys()
    assert all(torch.equal(found[n], deaf[n]) for n in deaf)
    assert sizes(remove_channels(model)) == sizes(remove_channels(model, deaf))


def test_a_channel_that_one_of_two_reads_stays() -> None:
    """Of the stem, channel 0 is read by the convolution of the second block alone, channel 1 by its shortcut alone."""
    model = small_resnet(4, 1)
    with torch.no_grad():
        for name, deaf in (("3.conv1", [0, 1, 2, 3]), ("4.conv1", [1, 2]), ("4.shortcut.0", [0, 2])):
            model.get_submodule(name).weight[:, deaf] = 0
    assert unread_channels(model)["0"].tolist() == [False, False, True, False]
    for channel, reader in ((0, "4.conv1"), (1, "4.shortcut.0")):
        with pytest.raises(ValueError, match=f"channel {channel} of 0 is still read by {reader}"):
            remove_channels(model, {"0": torch.arange(4) == channel})


def test_a_constant_that_nobody_reads_goes_too() -> None:
    """Channel 1 carries relu(beta) = 7 everywhere; the next layer's weights for it are 0, its bias stays."""
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.ReLU(), nn.Conv2d(2, 1, 1)).eval()
    with torch.no_grad():
        for tensor, value in zip(model.parameters(), ([2, 0], [0, 0], [1, 1], [0, 7], [3, 0], [0.5]), strict=True):
            tensor.copy_(torch.tensor(value, dtype=torch.float32).reshape(tensor.shape))
        small = remove_channels(model)
        assert [tuple(p.shape) for p in small.parameters()] == [(1, 1, 1, 1), (1,), (1,), (1,), (1, 1, 1, 1), (1,)]
        x = torch.tensor([[[[1.0]]]])
        assert model[:3](x).flatten()[1] == 7
        assert small(x).item() == pytest.approx(3 * 2 / (1 + 1e-5) ** 0.5 + 0.5)


def test_the_copy_is_a_plain_module_that_trains() -> None:
    model, x, deaf = deafened("residual", 0)
    before = {n: t.clone() for n, t in model.state_dict().items()}
    small = remove_channels(model, deaf)
    assert type(small) is type(model)
    assert [n for n, _ in small.named_modules()] == [n for n, _ in model.named_modules()]
    block = small.get_submodule("3")
    assert (
        block.conv1.out_channels == block.norm1.num_features == block.conv2.in_channels == block.conv1.weight.shape[0]
    )
    optimizer = torch.optim.SGD(small.parameters(), lr=0.01, momentum=0.9)
    for _ in range(2):
        optimizer.zero_grad()
        small(x).square().mean().backward()
        optimizer.step()
    assert all(torch.equal(t, before[n]) for n, t in model.state_dict().items())


def test_frozen_parameters_stay_frozen() -> None:
    model, _, deaf = deafened("plain", 0)
    model[0].requires_grad_(False)
    small = remove_channels(model, deaf)
    assert [small[0].weight.requires_grad, small[3].weight.requires_grad] == [False, True]


def test_what_cannot_go_is_refused_by_name() -> None:
    model = small_conv(4, 1)
    two = torch.tensor([True, True, False, False])
    for channels, message in (
        ({"9": two}, "'9' writes no channels of the model: choose from 0, 3, 6, 11"),
        ({"11": torch.ones(10, dtype=torch.bool)}, "no channel of 11 can be removed: it is the output"),
        ({"0": torch.ones(5, dtype=torch.bool)}, "0 has 4 channels: give a bool tensor of that length"),
        ({"0": torch.ones(4)}, r"got torch.float32 of shape \(4,\)"),
        ({"0": torch.ones(4, dtype=torch.bool)}, "0 would lose all its 4 channels"),
        ({"0": two}, "channel 0 of 0 is still read by 3"),
    ):
        with pytest.raises(ValueError, match=message):
            remove_channels(model, channels)
    nn.init.zeros_(model[3].weight)
    with pytest.raises(ValueError, match="0 would lose all its 4 channels"):
        remove_channels(model)


def test_compiled_models_give_a_plain_copy() -> None:
    model, _, deaf = deafened("plain", 0)
    assert type(remove_channels(torch.compile(model, backend="eager"), deaf)) is nn.Sequential

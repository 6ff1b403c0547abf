"""Streams found in small graphs whose answer is known by reading them, and what is kept whole with the reason."""

import re
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sparelu.train.analysis.convnets import small_conv, small_resnet
from sparelu.train.channels.channel_groups import ChannelGroup, Place, channel_groups


class Net(nn.Module):
    """Layers ``a``, ``b``, ``c`` and a forward pass given as a function."""

    def __init__(self, forward: Callable[["Net", Tensor], Tensor], **layers: nn.Module) -> None:
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)
        self.rule = forward

    def forward(self, x: Tensor) -> Tensor:
        return self.rule(self, x)


def conv(inputs: int, outputs: int, **choices: object) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1, **choices)


def names(places: list[Place]) -> list[str]:
    return [p.module for p in places]


def test_a_plain_network_is_a_chain() -> None:
    streams = channel_groups(small_conv(width=4, depth=1))
    assert {n: (s.width, names(s.norms), names(s.readers), s.joined) for n, s in streams.items()} == {
        "0": (4, ["1"], ["3"], False),
        "3": (8, ["4"], ["6"], False),
        "6": (16, ["7"], ["11"], False),
        "11": (10, [], [], False),
    }
    assert [bool(s.kept) for s in streams.values()] == [False, False, False, True]


def test_a_residual_sum_is_one_stream_with_all_its_writers() -> None:
    """Two blocks in each stage: the identity joins the second, the projection the first."""
    streams = channel_groups(small_resnet(width=4, blocks=2))
    stem, last = streams["0"], streams["7.conv2"]
    assert set(names(stem.writers)) == {"0", "3.conv2", "4.conv2"}
    assert set(names(stem.readers)) == {"3.conv1", "4.conv1", "5.conv1", "5.shortcut.0"}
    assert set(names(last.writers)) == {"7.conv2", "7.shortcut.0", "8.conv2"}
    assert set(names(last.norms)) == {"7.norm2", "7.shortcut.1", "8.norm2"}
    assert set(names(last.readers)) == {"8.conv1", "11"}
    assert stem.joined
    assert not streams["3.conv1"].joined


READS: dict[str, tuple[nn.Module, Place]] = {
    "flatten": (
        nn.Sequential(conv(3, 4), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(4 * 6, 5)),
        Place("3", 1, 6),
    ),
    "view": (Net(lambda m, x: m.b(m.a(x).view(x.size(0), -1)), a=conv(3, 4), b=nn.Linear(8, 2)), Place("b", 1, 2)),
    "shape": (
        Net(lambda m, x: m.b(m.a(x).reshape(x.shape[0], -1)), a=conv(3, 4), b=nn.Linear(8, 2)),
        Place("b", 1, 2),
    ),
    "own size": (
        Net(lambda m, x: (lambda y: m.b(y.view(y.size(0), -1)))(m.a(x)), a=conv(3, 4), b=nn.Linear(8, 2)),
        Place("b", 1, 2),
    ),
    "function": (
        Net(lambda m, x: m.b(torch.flatten(F.relu(m.a(x)), 1)), a=conv(3, 4), b=nn.Linear(8, 2)),
        Place("b", 1, 2),
    ),
    "mean": (Net(lambda m, x: m.b(m.a(x).mean((-1, 2))), a=conv(3, 4), b=nn.Linear(4, 2)), Place("b", 1, 1)),
    "mean, kept": (
        Net(lambda m, x: m.b(m.a(x).mean((2, 3), keepdim=True)), a=conv(3, 4), b=nn.Conv2d(4, 2, 1)),
        Place("b", 1, 1),
    ),
    "pool": (
        Net(lambda m, x: m.b(F.max_pool2d(torch.relu(m.a(x)) * 2, 2)), a=conv(3, 4), b=conv(4, 2)),
        Place("b", 1, 1),
    ),
    "transposed": (nn.Sequential(conv(3, 4), nn.ConvTranspose2d(4, 2, 3)), Place("1", 0, 1)),
    "linear": (nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2)), Place("3", 1, 1)),
}


@pytest.mark.parametrize("case", READS)
def test_who_reads_the_first_layer(case: str) -> None:
    model, place = READS[case]
    stream = next(iter(channel_groups(model).values()))
    assert (stream.kept, stream.readers) == ("", [place])


class Group(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.scale = conv(3, 4), conv(4, 2), nn.Parameter(torch.ones(4, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.a(x) * self.scale)


def tied() -> nn.Sequential:
    model = nn.Sequential(conv(3, 3), nn.ReLU(), conv(3, 3), nn.ReLU(), conv(3, 2))
    model[2].weight = model[0].weight
    return model


KEPT: dict[str, tuple[nn.Module, str]] = {
    "output": (nn.Sequential(conv(3, 4)), "output of the model"),
    "groups": (nn.Sequential(conv(3, 4), conv(4, 8, groups=2)), r"1 is a convolution in 2 groups"),
    "multiplier": (nn.Sequential(conv(3, 4), conv(4, 8, groups=4), conv(8, 2)), r"1 is a convolution in 4 groups"),
    "layer norm": (nn.Sequential(conv(3, 4), nn.GroupNorm(2, 4), conv(4, 2)), r"1 \(GroupNorm\) may mix"),
    "concatenation": (Net(lambda m, x: m.b(torch.cat([m.a(x), x], 1)), a=conv(3, 4), b=conv(7, 2)), "cat may mix"),
    "input": (Net(lambda m, x: m.b(m.a(x) + x), a=conv(3, 3), b=conv(3, 2)), "add may mix"),
    "index": (Net(lambda m, x: m.b(m.a(x)[:, :2]), a=conv(3, 4), b=conv(2, 2)), "an index may mix"),
    "shape": (Net(lambda m, x: m.b(m.a(x) * m.a(x).size(1)), a=conv(3, 4), b=conv(4, 2)), "size may mix"),
    "fixed view": (Net(lambda m, x: m.b(m.a(x).view(-1, 8)), a=conv(3, 4), b=nn.Linear(8, 2)), "view may mix"),
    "mean over all": (Net(lambda m, x: m.b(x * m.a(x).mean()), a=conv(3, 4), b=conv(3, 4)), "mean may mix"),
    "softmax": (Net(lambda m, x: m.b(torch.softmax(m.a(x), 1)), a=conv(3, 4), b=conv(4, 2)), "softmax may mix"),
    "last axis": (nn.Sequential(conv(3, 4), nn.Linear(8, 2)), "does not read its channels from the last axis"),
    "keyword": (
        Net(lambda m, x: m.b(torch.add(input=m.a(x), other=x.mean())), a=conv(3, 4), b=conv(4, 2)),
        "add may mix",
    ),
    "parameter": (Group(), "mul may mix"),
    "shared weight": (tied(), "0 shares its parameters"),
    "unread": (Net(lambda m, x: (m.a(x), m.b(x))[1], a=conv(3, 4), b=conv(3, 2)), "no layer reads it"),
}


@pytest.mark.parametrize("case", KEPT)
def test_channels_that_pass_through_what_is_not_understood_are_kept_whole(case: str) -> None:
    model, reason = KEPT[case]
    first = next(iter(channel_groups(model).values()))
    assert re.search(reason, first.kept)


def test_a_depthwise_convolution_is_of_the_stream_it_filters() -> None:
    model = nn.Sequential(conv(3, 4), conv(4, 4, groups=4), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))
    stream = channel_groups(model)["0"]
    assert stream == ChannelGroup(4, [Place("0", 0, 1), Place("1", 0, 1)], [Place("2", 0, 1)], [Place("3", 1, 1)])


def test_a_sum_is_kept_whole_when_one_of_its_writers_must_be() -> None:
    """b feeds a softmax before it is added to a, which was there first: the sum stays whole too, with b's reason."""

    def forward(m: Net, x: Tensor) -> Tensor:
        first, second = m.a(x), m.b(x)
        share = torch.softmax(second, 1).mean()
        return m.c(first + second) + share

    stream = channel_groups(Net(forward, a=conv(3, 4), b=conv(3, 4), c=conv(4, 2)))["a"]
    assert names(stream.writers) == ["a", "b"]
    assert "softmax may mix" in stream.kept


def test_a_layer_called_twice_reads_one_stream() -> None:
    """c reads what a writes and what b writes: their channels go together, though nothing adds them."""
    model = Net(lambda m, x: m.c(m.a(x)) + m.c(m.b(x)), a=conv(3, 4), b=conv(3, 4), c=conv(4, 2))
    streams = channel_groups(model)
    assert names(streams["a"].writers) == ["a", "b"]
    assert streams["a"].joined


def test_a_forward_pass_that_depends_on_data_is_refused() -> None:
    model = Net(lambda m, x: m.a(x) if x.sum() > 0 else x, a=conv(3, 3))
    with pytest.raises(ValueError, match="forward pass of Net cannot be traced"):
        channel_groups(model)


def test_compiled_models_are_looked_into() -> None:
    model = small_conv(width=4, depth=1)
    assert list(channel_groups(torch.compile(model, backend="eager"))) == list(channel_groups(model))

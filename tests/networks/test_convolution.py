"""Convolutions as affine maps: against torch's own, written out, compacted, and as modules."""

import copy
import pickle

import numpy as np
import pytest
import torch
from torch import nn

from sparelu.networks.convolution import Convolution, stages
from sparelu.networks.layer import Layer
from sparelu.networks.network import Network
from sparelu.networks.torch_modules import Images

SHAPES = [((6, 5, 2), 4, 3, 2, 1), ((4, 4, 1), 2, 3, 1, 0), ((5, 7, 3), 3, 2, 3, 1), ((3, 3, 2), 2, 1, 1, 0)]


def convolution(image: tuple[int, int, int], channels: int, side: int, stride: int, padding: int) -> Convolution:
    g = torch.Generator().manual_seed(sum(image))
    weight = torch.randn(channels, side * side * image[2], generator=g, dtype=torch.float64)
    weight[torch.rand(weight.shape, generator=g) < 0.5] = 0
    return Convolution(Layer.from_dense(weight, torch.randn(channels, generator=g)), image, side, stride, padding)


def chain(normalised: bool = True) -> nn.Sequential:
    """Two convolutions and two linear layers with zeros, in float64, with other statistics than at the start."""
    torch.manual_seed(0)
    norms = [nn.BatchNorm2d(c) if normalised else nn.Identity() for c in (5, 4)]
    module = nn.Sequential(
        *(Images(8, 6, 2), nn.Conv2d(2, 5, 3, 2, 1), norms[0], nn.ReLU(), nn.Dropout(0.5)),
        *(nn.Conv2d(5, 4, 3, 1, bias=False), norms[1], nn.ReLU()),
        *(nn.Flatten(), nn.Linear(4 * 2, 6), nn.ReLU(), nn.Linear(6, 3)),
    ).double()
    with torch.no_grad():
        for tensor in (*module.parameters(), *(b for n in norms for b in n.buffers() if b.is_floating_point())):
            tensor.uniform_(0.1, 1.0) if tensor.ndim == 1 else tensor.mul_(torch.rand_like(tensor) < 0.6)
    return module.eval()


@pytest.mark.parametrize("shape", SHAPES)
def test_it_computes_what_torch_does_and_so_does_the_layer_written_out(shape: tuple) -> None:
    """An image (h, w, c) laid flat goes to torch as (c, h, w)."""
    part = convolution(*shape)
    x = torch.randn(3, part.shape[1], dtype=torch.float64)
    conv = nn.Conv2d(shape[0][2], *shape[1:], dtype=torch.float64)
    conv.weight.data = torch.stack([part.kernel.dense()[:, c :: shape[0][2]] for c in range(shape[0][2])], 1).reshape(
        conv.weight.shape
    )
    conv.bias.data = part.kernel.dense_bias()
    expected = np.moveaxis(
        conv(torch.from_numpy(np.moveaxis(x.numpy().reshape(3, *shape[0]), 3, 1).copy())).detach().numpy(), 1, 3
    )
    assert expected.shape[1:] == part.outputs
    np.testing.assert_allclose(part(x).reshape(expected.shape), expected, atol=1e-12)
    np.testing.assert_allclose(part.written_out(x), part(x), atol=1e-12)
    assert part.written_out.shape == part.shape


def test_weights_count_once() -> None:
    """4 x 4 pixels, a window of 3 x 3 at 2 x 2 places: one weight is one, written out it is four."""
    kernel = Layer.from_dense(np.eye(2, 9), [0.0, 1.0])
    part = Convolution(kernel, (4, 4, 1), 3, 1, 0)
    assert (part.nonzeros, part.biases, part.cells, part.channels) == (2, 1, 18, 2)
    assert (part.written_out.nonzeros, part.written_out.biases) == (8, 4)
    net = Network((part, Layer.from_dense(np.ones((1, 8)))))
    assert (net.nonzeros, net.biases, net.hidden, net.fused, net.convolutions) == (10, 1, (8,), False, 1)


@pytest.mark.parametrize("normalised", [True, False])
def test_a_chain_of_modules_is_read_and_written(normalised: bool) -> None:
    module = chain(normalised)
    net = Network.from_module(module)
    x = torch.randn(7, 96, dtype=torch.float64)
    expected = module(x).detach()
    weights = [m.weight for m in module if isinstance(m, (nn.Conv2d, nn.Linear))]
    assert net.nonzeros == sum(int(w.count_nonzero()) for w in weights)
    torch.testing.assert_close(net(x), expected, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(net.to_module()(x).detach(), expected, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(Network(net.layers)(x), expected, rtol=1e-10, atol=1e-10)
    again = Network.from_module(net.to_module())
    assert again.nonzeros == net.nonzeros
    assert (net.inputs, net.outputs, net.convolutions) == (96, 3, 2)
    for copied in (copy.deepcopy(net), pickle.loads(pickle.dumps(net)), net.to(torch.float32)):
        torch.testing.assert_close(copied(x.to(copied.dtype)).double(), expected, rtol=1e-4, atol=1e-4)


def test_many_rows_are_taken_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    net = Network.from_module(chain())
    x = torch.randn(7, 96, dtype=torch.float64)
    whole = net(x)
    monkeypatch.setattr("sparelu.networks.network.IMAGES", 3)
    torch.testing.assert_close(net(x), whole, rtol=1e-12, atol=1e-12)


def test_channels_that_nothing_reads_or_feeds_go() -> None:
    """Channel 1 of the first has no reader, channel 3 nothing that feeds it; of the second, one is read nowhere."""
    module = chain(normalised=False)
    with torch.no_grad():
        module[5].weight[:, 1] = 0
        module[1].weight[3], module[1].bias[3] = 0, 0
        module[9].weight.reshape(6, 4, 2)[:, 2] = 0
    net = Network.from_module(module)
    small = net.compact()
    x = torch.randn(5, 96, dtype=torch.float64)
    torch.testing.assert_close(small(x), module(x).detach(), rtol=1e-10, atol=1e-10)
    assert (small.inputs, small.outputs) == (96, 3)
    assert [part.channels for part in small.parts[:2]] == [3, 3]
    assert [m.out_channels for m in small.to_module() if isinstance(m, nn.Conv2d)] == [3, 3]
    assert small.nonzeros == sum(p.nonzeros for p in small.parts) < net.nonzeros


def test_without_a_weight_a_convolution_is_its_bias() -> None:
    part = Convolution(Layer.from_dense(np.zeros((2, 9)), [1.0, -2.0]), (4, 4, 1), 3, 2, 1)
    assert part(torch.zeros(2, 16, dtype=torch.float64)).tolist() == [[1, -2] * 4] * 2
    assert (part.nonzeros, part.biases) == (0, 2)


def test_images_between_convolutions() -> None:
    """28 -> 14 -> 7 -> 4: half, rounded up."""
    assert stages((28, 28), (8, 16, 32)) == [(28, 28, 1), (14, 14, 8), (7, 7, 16), (4, 4, 32)]
    assert stages((5, 3), ()) == [(5, 3, 1)]


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Linear(2, 2)), "'0' is a Conv2d and the size of its images"),
        (nn.Sequential(Images(4, 4, 2), nn.Conv2d(2, 2, 3, groups=2), nn.ReLU()), "'1': of convolutions only square"),
        (nn.Sequential(Images(4, 4, 1), nn.Conv2d(1, 2, (3, 1)), nn.ReLU()), "'1': of convolutions only square"),
        (nn.Sequential(Images(4, 4, 1), nn.Conv2d(1, 2, 3), nn.MaxPool2d(2)), "'2' is a MaxPool2d where a ReLU"),
        (
            nn.Sequential(Images(4, 4, 1), nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2, track_running_stats=False)),
            "without running statistics",
        ),
        (nn.Sequential(nn.Linear(4, 2), nn.BatchNorm2d(2)), "'1' is a BatchNorm2d where a ReLU"),
    ],
)
def test_what_cannot_be_read_is_named(module: nn.Module, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Network.from_module(module)


def test_what_does_not_fit_is_named() -> None:
    kernel = Layer.from_dense(np.ones((2, 9)))
    with pytest.raises(ValueError, match="has 18 columns, got 9"):
        Convolution(kernel, (4, 4, 2))
    with pytest.raises(ValueError, match="an image of 2 x 4 is smaller than the window of side 3"):
        Convolution(kernel, (2, 4, 1), padding=0)
    with pytest.raises(ValueError, match="ends in a convolution"):
        Network((Convolution(kernel, (4, 4, 1)),)).to_module()

"""Two small convolutional networks for experiments: plain and residual, with batch normalisation."""

import torch
from torch import nn

from sparelu.networks.torch_modules import Traced


def small_conv(width: int = 16, depth: int = 2, inputs: int = 3, classes: int = 10, stride: int = 1) -> nn.Sequential:
    """Build three stages of ``depth`` 3 x 3 convolutions with ``width``, 2 ``width``, 4 ``width`` channels, as in VGG.

    ``stride`` is that of the first convolution, each further stage starts with stride 2; then the mean over space and
    one linear layer. Takes images (n, ``inputs``, height, width) of any size from 4 ``stride`` on.
    """
    layers: list[nn.Module] = []
    for stage in range(3):
        outputs = width * 2**stage
        for layer in range(depth):
            first = stage == layer == 0
            step = stride if first else 2 if layer == 0 else 1
            layers += [nn.Conv2d(inputs, outputs, 3, step, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
            inputs = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, classes))


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions beside the identity, or beside a 1 x 1 convolution where the shape changes.

    He et al., Deep residual learning, 2016, section 4.2, with the projection of option B.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Traced) -> Traced:
        """Map images (n, inputs, h, w) to (n, outputs, h / stride, w / stride)."""
        out = self.norm2(self.conv2(torch.relu(self.norm1(self.conv1(x)))))
        return torch.relu(out + self.shortcut(x))


def small_resnet(
    width: int = 16, blocks: int = 1, inputs: int = 3, classes: int = 10, stride: int = 1
) -> nn.Sequential:
    """Build three stages of ``blocks`` residual blocks with ``width``, 2 ``width``, 4 ``width`` channels.

    With ``blocks`` 3 and ``width`` 16 this is the ResNet-20 of He et al., 2016, up to the projections. ``stride`` is
    that of the first convolution. Takes images (n, ``inputs``, height, width) of any size from 4 ``stride`` on.
    """
    stem = (nn.Conv2d(inputs, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
    stages: list[nn.Module] = []
    before = width
    for stage in range(3):
        outputs = width * 2**stage
        for block in range(blocks):
            stages.append(ResidualBlock(before, outputs, 2 if stage and not block else 1))
            before = outputs
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, classes))
    return nn.Sequential(*stem, *stages, *head)

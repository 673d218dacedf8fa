"""Small float networks for images of digits, built from the blocks that large ones are made of."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from fxq.demo.digits import CLASSES


class BasicBlock(nn.Module):
    """relu(bn(conv(relu(bn(conv(x))))) + shortcut(x)), the block of ResNet-18 (He et al. 2015, https://arxiv.org/abs/1512.03385).

    The shortcut is the identity, or bn(conv1x1(x)) where the shape changes.
    """

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels_out)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels_out)
        self.downsample: nn.Module | None = None
        if stride != 1 or channels_in != channels_out:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels_in, channels_out, 1, stride, bias=False),
                nn.BatchNorm2d(channels_out),
            )

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return cast(Tensor, self.relu(y + shortcut))


class ResNetDigits(nn.Module):
    """f32 [N, 1, 8, 8] → f32 [N, 10]: a residual network of three stages on 8×8, 4×4 and 2×2 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(inplace=True))
        self.stage1 = nn.Sequential(BasicBlock(16, 16, 1), BasicBlock(16, 16, 1))
        self.stage2 = nn.Sequential(BasicBlock(16, 32, 2), BasicBlock(32, 32, 1))
        self.stage3 = nn.Sequential(BasicBlock(32, 64, 2), BasicBlock(64, 64, 1))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten(1)
        self.classifier = nn.Linear(64, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        y = self.stage3(self.stage2(self.stage1(self.stem(x))))
        return cast(Tensor, self.classifier(self.flatten(self.pool(y))))


def _conv_bn_relu6(channels_in: int, channels_out: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, kernel, stride, padding=kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU6(inplace=True),
    )


class InvertedResidual(nn.Module):
    """x + project(depthwise(expand(x))), the block of MobileNetV2 (Sandler et al. 2018, https://arxiv.org/abs/1801.04381).

    Expanding and filtering end in ReLU6, projecting is linear; x is added only where the shape stays.
    """

    def __init__(self, channels_in: int, channels_out: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = channels_in * expansion
        self.has_shortcut = stride == 1 and channels_in == channels_out
        self.expand = _conv_bn_relu6(channels_in, hidden, 1)
        self.depthwise = _conv_bn_relu6(hidden, hidden, 3, stride, groups=hidden)
        self.project = nn.Sequential(nn.Conv2d(hidden, channels_out, 1, bias=False), nn.BatchNorm2d(channels_out))

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.depthwise(self.expand(x)))
        return cast(Tensor, x + y if self.has_shortcut else y)


class _MobileNet(nn.Module):
    """Features with so many channels, then a mean, dropout and a linear layer."""

    def __init__(self, *features: nn.Module, channels: int) -> None:
        super().__init__()
        self.features = nn.Sequential(*features)
        self.dropout = nn.Dropout(0.1)
        self.classifier = nn.Linear(channels, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        y = self.features(x).mean(dim=(2, 3))
        return cast(Tensor, self.classifier(self.dropout(y)))


class MobileNetDigits(_MobileNet):
    """f32 [N, 1, 8, 8] → f32 [N, 10]: inverted residuals on 8×8, 4×4 and 2×2 pixels, then a mean, dropout and a linear layer."""

    def __init__(self) -> None:
        super().__init__(
            _conv_bn_relu6(1, 32, 3),
            InvertedResidual(32, 32, 1, expansion=2),
            InvertedResidual(32, 32, 2, expansion=4),
            InvertedResidual(32, 48, 1, expansion=4),
            InvertedResidual(48, 48, 1, expansion=4),
            InvertedResidual(48, 64, 2, expansion=4),
            InvertedResidual(64, 64, 1, expansion=4),
            _conv_bn_relu6(64, 192, 1),
            channels=192,
        )


class DeepMobileNetDigits(_MobileNet):
    """f32 [N, 1, 16, 16] → f32 [N, 10]: nine narrow inverted residuals on 16×16, 8×8 and 4×4 pixels; expansion by 6, as in MobileNetV2."""

    def __init__(self) -> None:
        super().__init__(
            _conv_bn_relu6(1, 16, 3),
            InvertedResidual(16, 8, 1, expansion=1),
            InvertedResidual(8, 12, 2, expansion=6),
            InvertedResidual(12, 12, 1, expansion=6),
            InvertedResidual(12, 16, 2, expansion=6),
            InvertedResidual(16, 16, 1, expansion=6),
            InvertedResidual(16, 16, 1, expansion=6),
            InvertedResidual(16, 32, 1, expansion=6),
            InvertedResidual(32, 32, 1, expansion=6),
            InvertedResidual(32, 32, 1, expansion=6),
            _conv_bn_relu6(32, 160, 1),
            channels=160,
        )

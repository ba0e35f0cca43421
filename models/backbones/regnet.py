"""RegNetX and RegNetY (Radosavovic et al. 2020), with Detectron2's parameter names."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from torch import Tensor, nn

from models.backbones.backbone import Backbone
from models.errors import ConfigError
from models.layers import CNNBlockBase, ShapeSpec, get_norm
from models.layers.batch_norm import Norm

Activation = Callable[[], nn.Module]
WIDTH_QUANTUM = 8


def _conv(w_in: int, w_out: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    conv = nn.Conv2d(w_in, w_out, kernel, stride, padding=kernel // 2, groups=groups, bias=False)
    fan_out = kernel * kernel * w_out
    nn.init.normal_(conv.weight, std=math.sqrt(2.0 / fan_out))
    return conv


def _relu() -> nn.Module:
    return nn.ReLU(inplace=True)


class SimpleStem(CNNBlockBase):
    """A 3x3 convolution of stride 2, norm and activation."""

    def __init__(
        self, w_in: int, w_out: int, norm: Norm = "BN", activation_class: Activation = _relu
    ) -> None:
        super().__init__(w_in, w_out, 2)
        self.conv = _conv(w_in, w_out, 3, stride=2)
        self.bn = get_norm(norm, w_out) or nn.Identity()
        self.af = activation_class()

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C', H / 2, W / 2)."""
        out: Tensor = self.af(self.bn(self.conv(x)))
        return out


class SqueezeExcitation(nn.Module):
    """Scales channels by what the whole feature map says (Hu et al. 2018)."""

    def __init__(self, w_in: int, w_se: int, activation_class: Activation = _relu) -> None:
        super().__init__()
        self.avg_pool = nn.AdaptiveAvgPool2d((1, 1))
        self.f_ex = nn.Sequential(
            nn.Conv2d(w_in, w_se, 1), activation_class(), nn.Conv2d(w_se, w_in, 1), nn.Sigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the same shape."""
        scales: Tensor = self.f_ex(self.avg_pool(x))
        return x * scales


class BottleneckTransform(nn.Module):
    """1x1, grouped 3x3 (with squeeze and excitation if asked for), 1x1."""

    def __init__(
        self,
        w_in: int,
        w_out: int,
        stride: int,
        norm: Norm,
        activation_class: Activation,
        bottleneck_ratio: float,
        group_width: int,
        se_ratio: float,
    ) -> None:
        super().__init__()
        w_b = round(w_out * bottleneck_ratio)
        self.a = _conv(w_in, w_b, 1)
        self.a_bn = get_norm(norm, w_b) or nn.Identity()
        self.a_af = activation_class()
        self.b = _conv(w_b, w_b, 3, stride=stride, groups=w_b // group_width)
        self.b_bn = get_norm(norm, w_b) or nn.Identity()
        self.b_af = activation_class()
        self.se = (
            SqueezeExcitation(w_b, round(w_in * se_ratio), activation_class) if se_ratio else None
        )
        self.c = _conv(w_b, w_out, 1)
        self.c_bn = get_norm(norm, w_out) or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C', H / stride, W / stride)."""
        x = self.a_af(self.a_bn(self.a(x)))
        x = self.b_af(self.b_bn(self.b(x)))
        if self.se is not None:
            x = self.se(x)
        out: Tensor = self.c_bn(self.c(x))
        return out


class ResBottleneckBlock(CNNBlockBase):
    """x + transform(x); the shortcut is projected where the shape changes."""

    def __init__(
        self,
        w_in: int,
        w_out: int,
        stride: int,
        norm: Norm = "BN",
        activation_class: Activation = _relu,
        bottleneck_ratio: float = 1.0,
        group_width: int = 1,
        se_ratio: float = 0.0,
    ) -> None:
        super().__init__(w_in, w_out, stride)
        self.proj: nn.Module | None = None
        if w_in != w_out or stride != 1:
            self.proj = _conv(w_in, w_out, 1, stride=stride)
            self.bn = get_norm(norm, w_out) or nn.Identity()
        self.f = BottleneckTransform(
            w_in, w_out, stride, norm, activation_class, bottleneck_ratio, group_width, se_ratio
        )
        self.af = activation_class()

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C', H / stride, W / stride)."""
        shortcut = x if self.proj is None else self.bn(self.proj(x))
        out: Tensor = self.af(shortcut + self.f(x))
        return out


class AnyNet(Backbone):
    """A stem and stages ``s1``, ``s2``, ... of blocks ``b1``, ``b2``, ...

    Args:
        stem_class, stem_width: the stem and its channels.
        block_class: the block of all stages.
        depths, widths, group_widths, strides, bottleneck_ratios: one number per stage.
        se_ratio: width of squeeze and excitation, of the block's input; 0 is without.
        activation_class: makes an activation.
        freeze_at: stages to freeze, 1 is the stem.
        norm: see :func:`get_norm`.
        out_features: names to return, out of "stem", "s1", ...; default: the last stage.
    """

    def __init__(
        self,
        *,
        stem_class: type[SimpleStem],
        stem_width: int,
        block_class: type[ResBottleneckBlock],
        depths: Sequence[int],
        widths: Sequence[int],
        group_widths: Sequence[int],
        strides: Sequence[int],
        bottleneck_ratios: Sequence[float],
        se_ratio: float = 0.0,
        activation_class: Activation | None = None,
        freeze_at: int = 0,
        norm: Norm = "BN",
        out_features: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        activation = activation_class or _relu
        self.stem = stem_class(3, stem_width, norm, activation)
        stride, w_in = self.stem.stride, stem_width
        self._shapes = {"stem": ShapeSpec(channels=stem_width, stride=stride)}
        names = []
        per_stage = zip(depths, widths, strides, bottleneck_ratios, group_widths, strict=True)
        for i, (depth, w_out, stage_stride, ratio, group_width) in enumerate(per_stage, start=1):
            blocks = nn.Sequential()
            for j in range(1, depth + 1):
                block = block_class(
                    w_in,
                    w_out,
                    stage_stride if j == 1 else 1,
                    norm,
                    activation,
                    ratio,
                    group_width,
                    se_ratio,
                )
                blocks.add_module(f"b{j}", block)
                w_in = w_out
            self.add_module(f"s{i}", blocks)
            names.append(f"s{i}")
            stride *= stage_stride
            self._shapes[f"s{i}"] = ShapeSpec(channels=w_out, stride=stride)
        self.stage_names = tuple(names)
        self.out_features = tuple(out_features or names[-1:])
        unknown = [name for name in self.out_features if name not in self._shapes]
        if unknown:
            raise ConfigError(
                f"RegNet has no features {', '.join(unknown)}; it has {', '.join(self._shapes)}."
            )
        self.freeze(freeze_at)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """(N, C, H, W) -> the features named in ``out_features``."""
        outputs = {"stem": self.stem(x)}
        x = outputs["stem"]
        for name in self.stage_names:
            x = outputs[name] = getattr(self, name)(x)
        return {name: outputs[name] for name in self.out_features}

    def output_shape(self) -> dict[str, ShapeSpec]:
        """Channels and stride of each returned feature."""
        return {name: self._shapes[name] for name in self.out_features}

    def freeze(self, freeze_at: int = 0) -> AnyNet:
        """Freeze the first ``freeze_at`` stages, 1 is the stem. Returns self."""
        if freeze_at >= 1:
            self.stem.freeze()
        for number, name in enumerate(self.stage_names, start=2):
            if freeze_at >= number:
                for block in getattr(self, name):
                    block.freeze()
        return self


class RegNet(AnyNet):
    """An :class:`AnyNet` whose widths and depths follow a quantised line (paper §3.3).

    Args:
        depth: blocks of all stages together.
        w_a, w_0, w_m: slope, start and quantisation of the widths.
        group_width: channels per group of the 3x3 convolutions.
        stride: of each stage.
        bottleneck_ratio: width of the 3x3 convolution, of the block's.
    """

    def __init__(
        self,
        *,
        stem_class: type[SimpleStem],
        stem_width: int,
        block_class: type[ResBottleneckBlock],
        depth: int,
        w_a: float,
        w_0: int,
        w_m: float,
        group_width: int,
        stride: int = 2,
        bottleneck_ratio: float = 1.0,
        **kwargs: Any,
    ) -> None:
        widths, depths = generate_widths(w_a, w_0, w_m, depth)
        ratios = [bottleneck_ratio] * len(widths)
        adjusted = [adjust_width(width, bottleneck_ratio, group_width) for width in widths]
        super().__init__(
            stem_class=stem_class,
            stem_width=stem_width,
            block_class=block_class,
            depths=depths,
            widths=[width for width, _ in adjusted],
            group_widths=[group for _, group in adjusted],
            strides=[stride] * len(widths),
            bottleneck_ratios=ratios,
            **kwargs,
        )


def generate_widths(w_a: float, w_0: int, w_m: float, depth: int) -> tuple[list[int], list[int]]:
    """Widths of the stages and how many blocks each has."""
    if w_a < 0 or w_0 <= 0 or w_m <= 1 or w_0 % WIDTH_QUANTUM:
        raise ConfigError(
            f"RegNet needs w_a >= 0, w_m > 1 and w_0 a positive multiple of {WIDTH_QUANTUM}; "
            f"given are {w_a}, {w_m} and {w_0}."
        )
    continuous = np.arange(depth) * w_a + w_0
    exponents = np.round(np.log(continuous / w_0) / np.log(w_m))
    quantised = np.round(w_0 * np.power(w_m, exponents) / WIDTH_QUANTUM).astype(int) * WIDTH_QUANTUM
    widths, depths = np.unique(quantised, return_counts=True)
    return widths.tolist(), depths.tolist()


def adjust_width(width: int, bottleneck_ratio: float, group_width: int) -> tuple[int, int]:
    """The nearest width that groups divide, and the group width that fits it."""
    inner = max(1, int(width * bottleneck_ratio))
    group = min(group_width, inner)
    multiple = math.lcm(group, int(bottleneck_ratio)) if bottleneck_ratio > 1 else group
    inner = max(multiple, round(inner / multiple) * multiple)
    return int(inner / bottleneck_ratio), group

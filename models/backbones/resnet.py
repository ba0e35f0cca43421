"""ResNet and ResNeXt (He et al. 2015; Xie et al. 2016), with Detectron2's parameter names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.backbones.backbone import Backbone
from models.errors import ConfigError
from models.layers import CNNBlockBase, Conv2d, ShapeSpec, get_norm
from models.layers.batch_norm import Norm
from models.layers.weight_init import c2_msra_fill

BLOCKS_PER_STAGE = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}


def _conv_norm(
    in_channels: int, out_channels: int, kernel: int, norm: Norm, **kwargs: Any
) -> Conv2d:
    """A convolution without bias, of "same" padding unless told otherwise, and its norm."""
    kwargs.setdefault("padding", kernel // 2)
    conv = Conv2d(
        in_channels,
        out_channels,
        kernel_size=kernel,
        bias=False,
        norm=get_norm(norm, out_channels),
        **kwargs,
    )
    c2_msra_fill(conv)
    return conv


class BasicBlock(CNNBlockBase):
    """Two 3x3 convolutions and a shortcut: the block of ResNet-18 and -34."""

    def __init__(
        self, in_channels: int, out_channels: int, *, stride: int = 1, norm: Norm = "BN"
    ) -> None:
        super().__init__(in_channels, out_channels, stride)
        self.shortcut = (
            _conv_norm(in_channels, out_channels, 1, norm, stride=stride)
            if in_channels != out_channels
            else None
        )
        self.conv1 = _conv_norm(in_channels, out_channels, 3, norm, stride=stride)
        self.conv2 = _conv_norm(out_channels, out_channels, 3, norm)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C', H / stride, W / stride)."""
        out = self.conv2(F.relu_(self.conv1(x)))
        out += x if self.shortcut is None else self.shortcut(x)
        return F.relu_(out)


class BottleneckBlock(CNNBlockBase):
    """1x1, 3x3 and 1x1 convolutions and a shortcut: the block of ResNet-50, -101, -152 and ResNeXt.

    ``stride_in_1x1`` puts the stride on the first 1x1 (as in the original models converted from
    Caffe) rather than on the 3x3.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        bottleneck_channels: int,
        stride: int = 1,
        num_groups: int = 1,
        norm: Norm = "BN",
        stride_in_1x1: bool = False,
        dilation: int = 1,
    ) -> None:
        super().__init__(in_channels, out_channels, stride)
        self.shortcut = (
            _conv_norm(in_channels, out_channels, 1, norm, stride=stride)
            if in_channels != out_channels
            else None
        )
        stride_1x1, stride_3x3 = (stride, 1) if stride_in_1x1 else (1, stride)
        self.conv1 = _conv_norm(in_channels, bottleneck_channels, 1, norm, stride=stride_1x1)
        self.conv2: nn.Module = _conv_norm(  # a subclass may replace it
            bottleneck_channels,
            bottleneck_channels,
            3,
            norm,
            stride=stride_3x3,
            padding=dilation,
            groups=num_groups,
            dilation=dilation,
        )
        self.conv3 = _conv_norm(bottleneck_channels, out_channels, 1, norm)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C', H / stride, W / stride)."""
        out = F.relu_(self.conv1(x))
        out = F.relu_(self.conv2(out))
        out = self.conv3(out)
        out += x if self.shortcut is None else self.shortcut(x)
        return F.relu_(out)


class BasicStem(CNNBlockBase):
    """7x7 convolution of stride 2 and a 3x3 max-pool of stride 2: total stride 4."""

    def __init__(self, in_channels: int = 3, out_channels: int = 64, norm: Norm = "BN") -> None:
        super().__init__(in_channels, out_channels, 4)
        self.conv1 = _conv_norm(in_channels, out_channels, 7, norm, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C', H / 4, W / 4)."""
        return F.max_pool2d(F.relu_(self.conv1(x)), kernel_size=3, stride=2, padding=1)


class ResNet(Backbone):
    """Stem and stages ``res2``, ``res3``, ...; see :meth:`make_default_stages` for the usual depths.

    Args:
        stem: a module with ``out_channels`` and ``stride``.
        stages: several (usually four) lists of blocks.
        num_classes: if given, an average pool and a linear classifier ("linear") end the network.
        out_features: names to return, out of "stem", "res2", ..., "linear"; default: the last one.
        freeze_at: how many stages to freeze, 1 is the stem; see :meth:`freeze`.
    """

    def __init__(
        self,
        stem: CNNBlockBase,
        stages: Sequence[Sequence[CNNBlockBase]],
        num_classes: int | None = None,
        out_features: Sequence[str] | None = None,
        freeze_at: int = 0,
    ) -> None:
        super().__init__()
        self.stem = stem
        self.num_classes = num_classes
        self._shapes = {"stem": ShapeSpec(channels=stem.out_channels, stride=stem.stride)}
        stage_names = [f"res{i + 2}" for i in range(len(stages))]
        if out_features is not None and "linear" not in out_features:
            # Stages behind the last one asked for are not built: they would only cost memory.
            needed = [stage_names.index(f) + 1 for f in out_features if f in stage_names]
            stages = stages[: max(needed, default=0)]
            stage_names = stage_names[: len(stages)]
        stride, channels = stem.stride, stem.out_channels
        for name, blocks in zip(stage_names, stages, strict=True):
            if not blocks:
                raise ValueError(f"Stage {name} has no blocks.")
            self.add_module(name, nn.Sequential(*blocks))
            for block in blocks:
                stride *= block.stride
            channels = blocks[-1].out_channels
            self._shapes[name] = ShapeSpec(channels=channels, stride=stride)
        self.stage_names = tuple(stage_names)
        if num_classes is not None:
            self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
            self.linear = nn.Linear(channels, num_classes)
            nn.init.normal_(self.linear.weight, std=0.01)  # Goyal et al. 2017, §5.1
            self._shapes["linear"] = ShapeSpec(channels=num_classes)
        if out_features is None:
            out_features = ["linear" if num_classes is not None else stage_names[-1]]
        unknown = [name for name in out_features if name not in self._shapes]
        if unknown:
            raise ConfigError(
                f"ResNet has no features {', '.join(unknown)}; it has {', '.join(self._shapes)}.",
                key="MODEL.RESNETS.OUT_FEATURES",
            )
        self.out_features = tuple(out_features)
        self.freeze(freeze_at)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """(N, C, H, W) -> the features named in ``out_features``."""
        outputs: dict[str, Tensor] = {}
        x = self.stem(x)
        if "stem" in self.out_features:
            outputs["stem"] = x
        for name in self.stage_names:
            x = getattr(self, name)(x)
            if name in self.out_features:
                outputs[name] = x
        if self.num_classes is not None and "linear" in self.out_features:
            outputs["linear"] = self.linear(torch.flatten(self.avgpool(x), 1))
        return outputs

    def output_shape(self) -> dict[str, ShapeSpec]:
        """Channels and stride of each returned feature."""
        return {name: self._shapes[name] for name in self.out_features}

    def freeze(self, freeze_at: int = 0) -> ResNet:
        """Freeze the first ``freeze_at`` stages: 1 is the stem, 2 the stem and res2, ... Returns self."""
        if freeze_at >= 1:
            self.stem.freeze()
        for number, name in enumerate(self.stage_names, start=2):
            if freeze_at >= number:
                for block in getattr(self, name):
                    block.freeze()
        return self

    @staticmethod
    def make_stage(
        block_class: type[CNNBlockBase],
        num_blocks: int,
        *,
        in_channels: int,
        out_channels: int,
        **kwargs: Any,
    ) -> list[CNNBlockBase]:
        """Blocks of one stage.

        A keyword ``xx_per_block`` is a list with one ``xx`` for each block; any other keyword goes
        to every block as it is.
        """
        blocks: list[CNNBlockBase] = []
        for i in range(num_blocks):
            arguments: dict[str, Any] = {}
            for key, value in kwargs.items():
                if key.endswith("_per_block"):
                    if len(value) != num_blocks:
                        raise ValueError(f"{key} has {len(value)} values for {num_blocks} blocks.")
                    arguments[key.removesuffix("_per_block")] = value[i]
                else:
                    arguments[key] = value
            blocks.append(
                block_class(in_channels=in_channels, out_channels=out_channels, **arguments)
            )
            in_channels = out_channels
        return blocks

    @staticmethod
    def make_default_stages(
        depth: int, block_class: type[CNNBlockBase] | None = None, **kwargs: Any
    ) -> list[list[CNNBlockBase]]:
        """The four stages of a ResNet of ``depth`` 18, 34, 50, 101 or 152.

        ``kwargs`` go to :meth:`make_stage`; strides and channels are those of the depth.
        """
        if depth not in BLOCKS_PER_STAGE:
            raise ValueError(f"No ResNet of depth {depth}; there are {list(BLOCKS_PER_STAGE)}.")
        basic = depth < 50
        if block_class is None:
            block_class = BasicBlock if basic else BottleneckBlock
        in_channels = [64, 64, 128, 256] if basic else [64, 256, 512, 1024]
        out_channels = [64, 128, 256, 512] if basic else [256, 512, 1024, 2048]
        stages = []
        for i, num_blocks in enumerate(BLOCKS_PER_STAGE[depth]):
            arguments = dict(kwargs)
            if not basic:
                arguments.setdefault("bottleneck_channels", out_channels[i] // 4)
            first_stride = 1 if i == 0 else 2
            stages.append(
                ResNet.make_stage(
                    block_class,
                    num_blocks,
                    stride_per_block=[first_stride] + [1] * (num_blocks - 1),
                    in_channels=in_channels[i],
                    out_channels=out_channels[i],
                    **arguments,
                )
            )
        return stages

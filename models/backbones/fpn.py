"""Feature Pyramid Network (Lin et al. 2017) on top of another backbone."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from models.backbones.backbone import Backbone
from models.backbones.build import BACKBONE_REGISTRY
from models.backbones.resnet_from_config import build_resnet_backbone
from models.config import Config
from models.errors import ConfigError
from models.layers import Conv2d, ShapeSpec, get_norm
from models.layers.weight_init import c2_xavier_fill


class FPN(Backbone):
    """Adds levels ``p2``, ``p3``, ... with ``out_channels`` channels each; ``p<i>`` has stride 2^i.

    Args:
        bottom_up: the backbone whose features are taken.
        in_features: names of its features, from high to low resolution, each twice as coarse as the
            one before.
        out_channels: channels of each level.
        norm: norm of the lateral and output convolutions; they have a bias only without one.
        top_block: makes further, coarser levels: ``num_levels`` of them, out of feature ``in_feature``.
        fuse_type: "sum" or "avg" of the lateral and the top-down features.
    """

    def __init__(
        self,
        bottom_up: Backbone,
        in_features: Sequence[str],
        out_channels: int,
        norm: str = "",
        top_block: LastLevelMaxPool | LastLevelP6P7 | None = None,
        fuse_type: str = "sum",
    ) -> None:
        super().__init__()
        if fuse_type not in {"sum", "avg"}:
            raise ConfigError(
                f"MODEL.FPN.FUSE_TYPE is {fuse_type!r}; it is 'sum' or 'avg'.",
                key="MODEL.FPN.FUSE_TYPE",
            )
        if not in_features:
            raise ConfigError("MODEL.FPN.IN_FEATURES is empty.", key="MODEL.FPN.IN_FEATURES")
        shapes = bottom_up.output_shape()
        missing = [name for name in in_features if name not in shapes]
        if missing:
            raise ConfigError(
                f"MODEL.FPN.IN_FEATURES names {', '.join(missing)}, which the backbone does not "
                f"return ({', '.join(shapes)}).",
                key="MODEL.FPN.IN_FEATURES",
            )
        strides = [shapes[name].known_stride for name in in_features]
        if any(2 * fine != coarse for fine, coarse in itertools.pairwise(strides)):
            raise ConfigError(
                f"FPN needs each feature twice as coarse as the one before; strides are {strides}.",
                key="MODEL.FPN.IN_FEATURES",
            )
        levels = [int(math.log2(stride)) for stride in strides]
        if top_block is not None and top_block.in_feature not in {
            *shapes,
            *(f"p{level}" for level in levels),
        }:
            raise ConfigError(
                f"The last level of the pyramid is made of {top_block.in_feature}, which "
                f"MODEL.FPN.IN_FEATURES {list(in_features)} does not give.",
                key="MODEL.FPN.IN_FEATURES",
            )
        self.bottom_up = bottom_up
        self.in_features = tuple(in_features)
        self.top_block = top_block
        self.fuse_type = fuse_type
        self._levels = levels
        for name, level in zip(in_features, self._levels, strict=True):
            channels = shapes[name].known_channels
            use_bias = norm == ""
            lateral = Conv2d(
                channels,
                out_channels,
                kernel_size=1,
                bias=use_bias,
                norm=get_norm(norm, out_channels),
            )
            output = Conv2d(
                out_channels,
                out_channels,
                kernel_size=3,
                padding=1,
                bias=use_bias,
                norm=get_norm(norm, out_channels),
            )
            c2_xavier_fill(lateral)
            c2_xavier_fill(output)
            self.add_module(f"fpn_lateral{level}", lateral)
            self.add_module(f"fpn_output{level}", output)
        extra = top_block.num_levels if top_block is not None else 0
        last = self._levels[-1]
        self._shapes = {
            f"p{level}": ShapeSpec(channels=out_channels, stride=2**level)
            for level in [*self._levels, *range(last + 1, last + 1 + extra)]
        }
        self._size_divisibility = strides[-1]

    @property
    def size_divisibility(self) -> int:
        """The stride of the coarsest feature taken from ``bottom_up``."""
        return self._size_divisibility

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """(N, C, H, W) -> ``p<i>`` by name, high to low resolution."""
        bottom_up_features = self.bottom_up(x)
        results: list[Tensor] = []
        top_down: Tensor | None = None
        for name, level in zip(reversed(self.in_features), reversed(self._levels), strict=True):
            lateral = getattr(self, f"fpn_lateral{level}")(bottom_up_features[name])
            if top_down is None:
                top_down = lateral
            else:
                top_down = _add_upsampled_(lateral, top_down)
                if self.fuse_type == "avg":
                    top_down /= 2
            results.insert(0, getattr(self, f"fpn_output{level}")(top_down))
        if self.top_block is not None:
            named = dict(zip(self._shapes, results, strict=False))
            source = bottom_up_features.get(self.top_block.in_feature)
            results.extend(
                self.top_block(named[self.top_block.in_feature] if source is None else source)
            )
        return dict(zip(self._shapes, results, strict=True))

    def output_shape(self) -> dict[str, ShapeSpec]:
        """Channels and stride of each level."""
        return dict(self._shapes)


def _add_upsampled_(fine: Tensor, coarse: Tensor) -> Tensor:
    """Add (N, C, H, W) to each 2x2 pixels of (N, C, 2 H, 2 W), in place; none is copied for that."""
    number, channels, height, width = coarse.shape
    fine.view(number, channels, height, 2, width, 2).add_(coarse[:, :, :, None, :, None])
    return fine


class LastLevelMaxPool(nn.Module):
    """One more level, ``p6``: every second pixel of ``p5``."""

    num_levels = 1
    in_feature = "p5"

    def forward(self, x: Tensor) -> list[Tensor]:
        """(N, C, H, W) -> [(N, C, H / 2, W / 2)]."""
        return [F.max_pool2d(x, kernel_size=1, stride=2, padding=0)]


class LastLevelP6P7(nn.Module):
    """Two more levels by convolution: ``p6`` of ``in_feature``, ``p7`` of the rectified ``p6``.

    ``in_feature`` is "res5" in RetinaNet and "p5" in FCOS.
    """

    num_levels = 2

    def __init__(self, in_channels: int, out_channels: int, in_feature: str = "res5") -> None:
        super().__init__()
        self.in_feature = in_feature
        self.p6 = nn.Conv2d(in_channels, out_channels, 3, 2, 1)
        self.p7 = nn.Conv2d(out_channels, out_channels, 3, 2, 1)
        for layer in (self.p6, self.p7):
            c2_xavier_fill(layer)

    def forward(self, x: Tensor) -> list[Tensor]:
        """(N, C, H, W) -> [(N, C', H / 2, W / 2), (N, C', H / 4, W / 4)]."""
        p6 = self.p6(x)
        return [p6, self.p7(F.relu(p6))]


@BACKBONE_REGISTRY.register()
def build_resnet_fpn_backbone(cfg: Config, input_shape: ShapeSpec) -> FPN:
    """``cfg.MODEL.RESNETS`` with the pyramid of ``cfg.MODEL.FPN`` and a max-pooled last level."""
    return FPN(
        bottom_up=build_resnet_backbone(cfg, input_shape),
        in_features=cfg.MODEL.FPN.IN_FEATURES,
        out_channels=cfg.MODEL.FPN.OUT_CHANNELS,
        norm=cfg.MODEL.FPN.NORM,
        top_block=LastLevelMaxPool(),
        fuse_type=cfg.MODEL.FPN.FUSE_TYPE,
    )


@BACKBONE_REGISTRY.register()
def build_retinanet_resnet_fpn_backbone(cfg: Config, input_shape: ShapeSpec) -> FPN:
    """``cfg.MODEL.RESNETS`` with the pyramid of ``cfg.MODEL.FPN`` and convolved levels p6, p7."""
    bottom_up = build_resnet_backbone(cfg, input_shape)
    out_channels: int = cfg.MODEL.FPN.OUT_CHANNELS
    shapes = bottom_up.output_shape()
    if "res5" not in shapes:
        raise ConfigError(
            "This backbone makes p6 of res5: name it in MODEL.RESNETS.OUT_FEATURES.",
            key="MODEL.RESNETS.OUT_FEATURES",
        )
    return FPN(
        bottom_up=bottom_up,
        in_features=cfg.MODEL.FPN.IN_FEATURES,
        out_channels=out_channels,
        norm=cfg.MODEL.FPN.NORM,
        top_block=LastLevelP6P7(shapes["res5"].known_channels, out_channels),
        fuse_type=cfg.MODEL.FPN.FUSE_TYPE,
    )

"""Backbones made elsewhere: mmdetection's, timm's, torchvision's, or any that returns feature maps.

Register a function that returns one, and a config can name it::

    @BACKBONE_REGISTRY.register()
    def build_convnext_fpn(cfg, input_shape):
        net = timm.create_model("convnext_atto", features_only=True)
        info = net.feature_info
        shapes = [
            ShapeSpec(channels=c, stride=s)
            for c, s in zip(info.channels(), info.reduction(), strict=True)
        ]
        return FPN(MMDetBackbone(net, output_shapes=shapes), ["out0", "out1", "out2", "out3"], 256)
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from models.backbones.backbone import Backbone
from models.errors import ConfigError
from models.layers import ShapeSpec


class MMDetBackbone(Backbone):
    """A module that returns feature maps in order, as a backbone that returns them by name.

    Args:
        backbone: takes an image batch (N, C, H, W) and returns a list or tuple of feature maps
            (N, C', H', W'), or a dict of them, whose order counts and whose names do not. Or a
            config of mmdetection 2.x, which mmdetection then builds, without weights.
        neck: takes what ``backbone`` returns, as it comes, and returns feature maps alike; None: no
            neck. Or a config likewise.
        output_shapes: channels and stride of each feature map of the last module.
        output_names: their names; default ``out0``, ``out1``, ...

    Raises:
        ConfigError: names and shapes differ in number, a name comes twice, or a config is given and
            mmdetection 2.x is not installed.
    """

    def __init__(
        self,
        backbone: nn.Module | Mapping[str, Any],
        neck: nn.Module | Mapping[str, Any] | None = None,
        *,
        output_shapes: Sequence[ShapeSpec],
        output_names: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        if output_names is None:
            output_names = [f"out{i}" for i in range(len(output_shapes))]
        if len(output_names) != len(output_shapes):
            raise ConfigError(
                f"MMDetBackbone got {len(output_names)} output_names ({', '.join(output_names)}) for "
                f"{len(output_shapes)} output_shapes."
            )
        if len(set(output_names)) != len(output_names):
            raise ConfigError(f"output_names has a name twice: {', '.join(output_names)}.")
        self.backbone = build_with_mmdet("backbone", backbone)
        self.neck = None if neck is None else build_with_mmdet("neck", neck)
        self._shapes = dict(zip(output_names, output_shapes, strict=True))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """(N, C, H, W) -> each feature map by name.

        Raises:
            TypeError: the wrapped module returns something other than a sequence or dict.
            ValueError: it returns another number of feature maps than ``output_shapes`` says.
        """
        outputs = self.backbone(x)
        if self.neck is not None:
            outputs = self.neck(outputs)
        last = self.backbone if self.neck is None else self.neck
        if isinstance(outputs, Mapping):
            outputs = tuple(outputs.values())
        if not isinstance(outputs, list | tuple):
            raise TypeError(
                f"{type(last).__name__} returned a {type(outputs).__name__}; MMDetBackbone needs a "
                "list, tuple or dict of feature maps."
            )
        if len(outputs) != len(self._shapes):
            raise ValueError(
                f"{type(last).__name__} returned {len(outputs)} feature maps, but output_shapes "
                f"describes {len(self._shapes)} ({', '.join(self._shapes)})."
            )
        return dict(zip(self._shapes, outputs, strict=True))

    def output_shape(self) -> dict[str, ShapeSpec]:
        """Channels and stride of each feature map, by name."""
        return dict(self._shapes)


def build_with_mmdet(kind: str, module: nn.Module | Mapping[str, Any]) -> nn.Module:
    """``module`` itself, or what mmdetection 2.x builds from it if it is a config.

    mmdetection is imported only for a config. Weights that a config names are not fetched: they come
    with the checkpoint of the whole model.

    Args:
        kind: "backbone", "neck" or "detector".
        module: a module, or mmdetection's dict for one (``{"type": "ResNet", "depth": 50, ...}``).

    Raises:
        ConfigError: it is a config and mmdetection 2.x cannot be imported, or it is neither.
    """
    if isinstance(module, nn.Module):
        return module
    if not isinstance(module, Mapping):
        raise ConfigError(
            f"The {kind} is a torch.nn.Module or a config of mmdetection, not a "
            f"{type(module).__name__}."
        )
    try:
        build = getattr(importlib.import_module("mmdet.models"), f"build_{kind}")
    except (ImportError, AttributeError, AssertionError) as error:  # it asserts versions of mmcv
        raise ConfigError(
            f"The {kind} is given as a config ({module.get('type', 'without a type')}), which needs "
            f"mmdetection 2.x: {error}. Install it, or build the {kind} yourself and give the "
            "torch.nn.Module instead.",
            kind=kind,
        ) from error
    built: nn.Module = build(_plain(module))
    return built


def _plain(value: Any) -> Any:
    """Mappings as dicts, all the way down: mmdetection takes no others."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_plain(item) for item in value)
    return value

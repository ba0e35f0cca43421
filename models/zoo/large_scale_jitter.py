"""The zoo's Mask R-CNNs of long training with large-scale jitter, which Detectron2 has as Python.

They are given here as Detectron2 dumps them, a tree of calls, and read as such a dump is.
"""

from __future__ import annotations

from typing import Any

from models.config import Config, default_config
from models.config.defaults import DEFAULTS
from models.config.lazy import lazy_changes
from models.config.merging import merge_

_MODELING = "detectron2.modeling"
_STAGES = ["res2", "res3", "res4", "res5"]
_LEVELS = ["p2", "p3", "p4", "p5"]
_REGNETS = {
    "regnetx": {"depth": 23, "w_a": 38.65, "w_m": 2.43, "group_width": 40},
    "regnety": {"depth": 22, "w_a": 31.41, "w_m": 2.24, "group_width": 64, "se_ratio": 0.25},
}


def large_scale_jitter_config(backbone: str) -> Config:
    """The config of one of these models, the same for 100, 200 and 400 epochs.

    Args:
        backbone: "r50", "r101", "regnetx" or "regnety".
    """
    values = default_config().to_dict()
    merge_(values, lazy_changes(_dump(backbone), f"{backbone} LSJ"), DEFAULTS, "")
    return Config(values)


def _call(target: str, **keywords: Any) -> dict[str, Any]:
    return {"_target_": f"{_MODELING}.{target}", **keywords}


def _shape(channels: int, side: int | None = None) -> dict[str, Any]:
    return {
        "_target_": "detectron2.layers.shape_spec.ShapeSpec",
        "channels": channels,
        "height": side,
        "width": side,
        "stride": None,
    }


def _dump(backbone: str) -> dict[str, Any]:
    is_regnet = backbone in _REGNETS
    return {
        "dataloader": {
            "train": {"dataset": {"names": "coco_2017_train"}},
            "test": {
                "dataset": {"names": "coco_2017_val"},
                "mapper": {
                    "image_format": "BGR",
                    "augmentations": [
                        {
                            "_target_": "detectron2.data.transforms.ResizeShortestEdge",
                            "short_edge_length": 800,
                            "max_size": 1333,
                        }
                    ],
                },
            },
        },
        "model": _call(
            "GeneralizedRCNN",
            backbone=_call(
                "FPN",
                bottom_up=_regnet(backbone) if is_regnet else _resnet(int(backbone[1:])),
                in_features="${.bottom_up.out_features}",
                out_channels=256,
                norm="SyncBN",
                top_block=_call("backbone.fpn.LastLevelMaxPool"),
            ),
            proposal_generator=_rpn(),
            roi_heads=_roi_heads(),
            pixel_mean=[103.53, 116.28, 123.675],
            pixel_std=[57.375, 57.12, 58.395] if is_regnet else [1.0, 1.0, 1.0],
            input_format="BGR",
        ),
    }


def _resnet(depth: int) -> dict[str, Any]:
    return _call(
        "ResNet",
        stem=_call("backbone.BasicStem", in_channels=3, out_channels=64, norm="SyncBN"),
        stages=_call("ResNet.make_default_stages", depth=depth, stride_in_1x1=True, norm="SyncBN"),
        out_features=_STAGES,
        freeze_at=0,
    )


def _regnet(name: str) -> dict[str, Any]:
    parts = f"{_MODELING}.backbone.regnet"
    return _call(
        "backbone.RegNet",
        stem_class={"_name_": f"{parts}.SimpleStem"},
        stem_width=32,
        block_class={"_name_": f"{parts}.ResBottleneckBlock"},
        w_0=96,
        norm="SyncBN",
        out_features=["s1", "s2", "s3", "s4"],
        **_REGNETS[name],
    )


def _rpn() -> dict[str, Any]:
    return _call(
        "proposal_generator.RPN",
        in_features=[*_LEVELS, "p6"],
        head=_call(
            "proposal_generator.StandardRPNHead", in_channels=256, num_anchors=3, conv_dims=[-1, -1]
        ),
        anchor_generator=_call(
            "anchor_generator.DefaultAnchorGenerator",
            sizes=[[32], [64], [128], [256], [512]],
            aspect_ratios=[0.5, 1.0, 2.0],
            strides=[4, 8, 16, 32, 64],
            offset=0.0,
        ),
        anchor_matcher=_matcher([0.3, 0.7], [0, -1, 1], low_quality=True),
        box2box_transform=_call("box_regression.Box2BoxTransform", weights=[1.0, 1.0, 1.0, 1.0]),
        batch_size_per_image=256,
        positive_fraction=0.5,
        pre_nms_topk=[2000, 1000],
        post_nms_topk=[1000, 1000],
        nms_thresh=0.7,
    )


def _matcher(thresholds: list[float], labels: list[int], *, low_quality: bool) -> dict[str, Any]:
    return _call(
        "matcher.Matcher",
        thresholds=thresholds,
        labels=labels,
        allow_low_quality_matches=low_quality,
    )


def _pooler(side: int) -> dict[str, Any]:
    return _call(
        "poolers.ROIPooler",
        output_size=side,
        scales=[1 / 4, 1 / 8, 1 / 16, 1 / 32],
        sampling_ratio=0,
        pooler_type="ROIAlignV2",
    )


def _roi_heads() -> dict[str, Any]:
    return _call(
        "StandardROIHeads",
        num_classes=80,
        batch_size_per_image=512,
        positive_fraction=0.25,
        proposal_matcher=_matcher([0.5], [0, 1], low_quality=False),
        box_in_features=_LEVELS,
        box_pooler=_pooler(7),
        box_head=_call(
            "roi_heads.FastRCNNConvFCHead",
            input_shape=_shape(256, 7),
            conv_dims=[256] * 4,
            fc_dims=[1024],
            conv_norm="BN",
        ),
        box_predictor=_call(
            "FastRCNNOutputLayers",
            input_shape=_shape(1024),
            test_score_thresh=0.05,
            box2box_transform=_call("box_regression.Box2BoxTransform", weights=[10, 10, 5, 5]),
            num_classes="${..num_classes}",
        ),
        mask_in_features=_LEVELS,
        mask_pooler=_pooler(14),
        mask_head=_call(
            "roi_heads.MaskRCNNConvUpsampleHead",
            input_shape=_shape(256, 14),
            num_classes="${..num_classes}",
            conv_dims=[256] * 5,
            conv_norm="BN",
        ),
    )

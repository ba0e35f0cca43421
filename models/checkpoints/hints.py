"""What a tensor that does not fit says about the config: which key is likely wrong.

Two tables hold the knowledge. ``PARTS``: modules that only one side has. ``RULES``: single tensors
that one side lacks or that differ in shape. A new architecture adds rows.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]


@dataclasses.dataclass(frozen=True)
class Part:
    """A module that only one side has: one sentence for it, and no more about what it covers."""

    prefix: str
    name: str
    keys: str
    covers: str | None = None


# Read from the top; a part that an earlier one covers is not looked at.
PARTS = (
    Part("backbone.fpn_", "feature pyramid", "MODEL.BACKBONE.NAME", covers="backbone."),
    Part("proposal_generator.", "proposal network", "MODEL.META_ARCHITECTURE or "
         "MODEL.PROPOSAL_GENERATOR.NAME"),
    Part("sem_seg_head.", "semantic head", "MODEL.META_ARCHITECTURE"),
    Part("head.", "RetinaNet or FCOS head", "MODEL.META_ARCHITECTURE"),
    Part("roi_heads.", "RoI heads", "MODEL.META_ARCHITECTURE"),
    Part("roi_heads.mask_head.", "mask head", "MODEL.MASK_ON"),
    Part("roi_heads.keypoint_head.", "keypoint head", "MODEL.KEYPOINT_ON"),
    Part("roi_heads.res5.", "res5 stage in its RoI heads (C4)", "MODEL.ROI_HEADS.NAME"),
    Part("roi_heads.box_predictor.0.", "cascade of box heads", "MODEL.ROI_HEADS.NAME",
         covers="roi_heads.box_"),
    Part("roi_heads.box_head.", "box head", "MODEL.ROI_HEADS.NAME or MODEL.ROI_BOX_HEAD.NAME"),
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Difference:
    """One tensor that does not fit; a side that lacks it has None."""

    name: str
    model: Shape | None
    file: Shape | None
    all_model: Shapes
    all_file: Shapes

    @property
    def kind(self) -> str:
        if self.file is None:
            return "missing"
        return "unexpected" if self.model is None else "of another shape"

    def lacks(self, word: str) -> str:
        """Says which side has what the other one has not."""
        without, having = ("file", "model") if self.file is None else ("model", "file")
        return f"the {having} has {word} and the {without} has none"

    def shared(self, rows_per_class: int) -> tuple[bool, bool]:
        """Whether the rows serve all classes at once, in the file and in the model.

        With one class, a row for each class and a row for all look the same: then it says no.
        """
        file, model = self.file or (0,), self.model or (0,)
        return (
            file[0] == rows_per_class and _num_classes(self.all_file) != 1,
            model[0] == rows_per_class and _num_classes(self.all_model) != 1,
        )


Explain = Callable[[re.Match[str], Difference], "str | None"]


def _box_classes(match: re.Match[str], d: Difference) -> str | None:
    """Rows of the box classifier: the classes and the background."""
    if d.model is None or d.file is None:
        return None
    if d.model[0] != d.file[0]:
        return _classes(d.file[0] - 1, d.model[0] - 1, "MODEL.ROI_HEADS.NUM_CLASSES")
    return _box_features(match, d)


def _box_deltas(match: re.Match[str], d: Difference) -> str | None:
    """Rows of the box regression: four per class, or four for all of them."""
    if d.model is None or d.file is None:
        return None
    if d.model[0] == d.file[0]:
        return _box_features(match, d)
    shared_file, shared_model = d.shared(rows_per_class=4)
    if shared_model != shared_file:
        what = "one box for all classes" if shared_file else "one box per class"
        key = "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG"
        return f"the file predicts {what} but {key} is {shared_model}"
    return _classes(d.file[0] // 4, d.model[0] // 4, "MODEL.ROI_HEADS.NUM_CLASSES")


def _masks(match: re.Match[str], d: Difference) -> str | None:
    """Channels of the mask predictor: one per class, or one for all of them."""
    if d.model is None or d.file is None:
        return None
    if d.model[0] == d.file[0]:
        return "check MODEL.ROI_MASK_HEAD.CONV_DIM"
    shared_file, shared_model = d.shared(rows_per_class=1)
    if shared_model != shared_file:
        what = "one mask for all classes" if shared_file else "one mask per class"
        key = "MODEL.ROI_MASK_HEAD.CLS_AGNOSTIC_MASK"
        return f"the file predicts {what} but {key} is {shared_model}"
    return _classes(d.file[0], d.model[0], "MODEL.ROI_HEADS.NUM_CLASSES")


def _box_features(match: re.Match[str], d: Difference) -> str:
    return "check MODEL.ROI_BOX_HEAD.FC_DIM, NUM_FC and MODEL.ROI_HEADS.NAME"


def _dense_classes(match: re.Match[str], d: Difference) -> str | None:
    """Rows of RetinaNet's classifier: anchors times classes."""
    if d.model is None or d.file is None or d.model[0] == d.file[0]:
        return None
    deltas = f"{match['head']}bbox_pred.weight"
    rows = [shapes.get(deltas, (0,))[0] // 4 for shapes in (d.all_file, d.all_model)]
    if rows[0] != rows[1] or not rows[0]:
        return _anchors(match, d)
    return _classes(d.file[0] // rows[0], d.model[0] // rows[1], "MODEL.RETINANET.NUM_CLASSES")


def _semantic_classes(match: re.Match[str], d: Difference) -> str | None:
    if d.model is None or d.file is None or d.model[0] == d.file[0]:
        return None
    return _classes(d.file[0], d.model[0], "MODEL.SEM_SEG_HEAD.NUM_CLASSES")


def _anchors(match: re.Match[str], d: Difference) -> str | None:
    if d.model is None or d.file is None or d.model[0] == d.file[0]:
        return None
    return (
        "the number of anchors per cell differs: check MODEL.ANCHOR_GENERATOR.SIZES and "
        "ASPECT_RATIOS (and NAME and ANGLES, if boxes are rotated)"
    )


def _keypoints(match: re.Match[str], d: Difference) -> str | None:
    if d.model is None or d.file is None:
        return None
    # A transposed convolution has its outputs in the second dimension.
    side = 1 if len(d.model) > 1 else 0
    if d.model[side] == d.file[side]:
        return "check MODEL.ROI_KEYPOINT_HEAD.CONV_DIMS"
    return (
        f"the file has {d.file[side]} keypoints but MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS is "
        f"{d.model[side]}"
    )


_NORM_KEYS = (
    (r"(backbone\.bottom_up|roi_heads\.res5|backbone\.(stem|res\d))\.", "MODEL.RESNETS.NORM"),
    (r"backbone\.fpn_", "MODEL.FPN.NORM"),
    (r"roi_heads\.box_head\.", "MODEL.ROI_BOX_HEAD.NORM"),
    (r"roi_heads\.mask_head\.", "MODEL.ROI_MASK_HEAD.NORM"),
    (r"sem_seg_head\.", "MODEL.SEM_SEG_HEAD.NORM"),
    (r"head\.", "MODEL.RETINANET.NORM"),
)


def _norm(match: re.Match[str], d: Difference) -> str | None:
    """A norm (or the bias that stands for none) on a convolution that both sides have."""
    convolution = f"{match['convolution']}.weight"
    if convolution not in d.all_model or convolution not in d.all_file or (d.model and d.file):
        return None
    key = next((key for prefix, key in _NORM_KEYS if re.match(prefix, d.name)), None)
    if key is None:
        return None
    if f"{match['convolution']}.norm.weight" in d.all_model.keys() & d.all_file.keys():
        return f"{d.lacks('the running statistics of a batch norm')}: check {key}"
    model_norm = f"{match['convolution']}.norm.weight" in d.all_model
    sides = ("model", "file") if model_norm else ("file", "model")
    return f"the {sides[0]} has a norm where the {sides[1]} has none: check {key}"


def _block(match: re.Match[str], d: Difference) -> str | None:
    """A residual block that one side does not have, or that is of the other kind."""
    block, stage = match["block"], match["stage"]
    sides = [{name for name in s if name.startswith(block)} for s in (d.all_model, d.all_file)]
    if sides[0] and sides[1]:
        if match["rest"].startswith("conv2_offset"):
            what = d.lacks("deformable convolutions")
            return f"{what}: check MODEL.RESNETS.DEFORM_ON_PER_STAGE"
        if match["rest"].startswith("conv3"):
            return (
                f"{d.lacks('bottleneck blocks')}: check MODEL.RESNETS.DEPTH (18 and 34 have none)"
            )
        return "check MODEL.RESNETS.RES2_OUT_CHANNELS and STEM_OUT_CHANNELS"
    counts = []
    for shapes in (d.all_file, d.all_model):
        found = {m[1] for name in shapes if (m := re.match(rf"{re.escape(stage)}(\d+)\.", name))}
        counts.append(len(found))
    if not all(counts):
        return (
            "the residual stages differ: check MODEL.RESNETS.OUT_FEATURES and MODEL.BACKBONE.NAME"
        )
    name = stage.rstrip(".").rpartition(".")[2]
    return (
        f"the file has {counts[0]} blocks in {name} and the model has {counts[1]}: check "
        "MODEL.RESNETS.DEPTH"
    )


def _offset_shape(match: re.Match[str], d: Difference) -> str:
    return "check MODEL.RESNETS.DEFORM_MODULATED and DEFORM_NUM_GROUPS"


def _first_fc(match: re.Match[str], d: Difference) -> str:
    if d.model and d.file and d.model[0] == d.file[0]:
        return "check MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION, NUM_CONV and MODEL.FPN.OUT_CHANNELS"
    return "check MODEL.ROI_BOX_HEAD.FC_DIM"


def _check(keys: str) -> Explain:
    return lambda match, d: f"check {keys}"


# The kinds of difference.
_ANY = ("missing", "unexpected")
_SHAPE = ("of another shape",)
_BOTH = (*_ANY, *_SHAPE)
_STAGE = r"(?P<block>(?P<stage>(?:.*\.)?res\d\.)\d+\.)(?P<rest>.*)"

# Kinds of difference, pattern of the whole name, what it says; the first that says something wins.
RULES: tuple[tuple[tuple[str, ...], re.Pattern[str], Explain], ...] = tuple(
    (kinds, re.compile(pattern), explain)
    for kinds, pattern, explain in (
        (_SHAPE, r"roi_heads\.box_predictor\.(\d\.)?cls_score\..*", _box_classes),
        (_SHAPE, r"roi_heads\.box_predictor\.(\d\.)?bbox_pred\..*", _box_deltas),
        (_SHAPE, r"roi_heads\.mask_head\.predictor\..*", _masks),
        (_SHAPE, r"(?P<head>head\.)cls_score\..*", _dense_classes),
        (_SHAPE, r"sem_seg_head\.predictor\..*", _semantic_classes),
        (_SHAPE, r"roi_heads\.keypoint_head\.score_lowres\..*", _keypoints),
        (_SHAPE, r"proposal_generator\.rpn_head\.(objectness_logits|anchor_deltas)\..*", _anchors),
        (_SHAPE, r"head\.bbox_pred\..*", _anchors),
        (_ANY, r"(?P<convolution>.*)\.(norm\.[a-z_]+|bias)", _norm),
        (_ANY, r"proposal_generator\.rpn_head\.conv\..*", _check("MODEL.RPN.CONV_DIMS")),
        (_SHAPE, r"proposal_generator\.rpn_head\.conv\..*",
         _check("MODEL.RPN.CONV_DIMS and MODEL.FPN.OUT_CHANNELS")),
        (_ANY, r"roi_heads\.box_head\.(\d\.)?fc\d+\..*", _check("MODEL.ROI_BOX_HEAD.NUM_FC")),
        (_ANY, r"roi_heads\.box_head\.(\d\.)?conv\d+\..*", _check("MODEL.ROI_BOX_HEAD.NUM_CONV")),
        (_SHAPE, r"roi_heads\.box_head\.(\d\.)?fc\d+\..*", _first_fc),
        (_SHAPE, r"roi_heads\.box_head\.(\d\.)?conv\d+\..*",
         _check("MODEL.ROI_BOX_HEAD.CONV_DIM and MODEL.FPN.OUT_CHANNELS")),
        (_ANY, r"roi_heads\.mask_head\.mask_fcn\d+\..*", _check("MODEL.ROI_MASK_HEAD.NUM_CONV")),
        (_SHAPE, r"roi_heads\.mask_head\..*",
         _check("MODEL.ROI_MASK_HEAD.CONV_DIM and MODEL.FPN.OUT_CHANNELS")),
        (_BOTH, r"roi_heads\.keypoint_head\..*", _check("MODEL.ROI_KEYPOINT_HEAD.CONV_DIMS")),
        (_BOTH, r"head\.(cls|bbox)_subnet\..*",
         _check("MODEL.RETINANET.NUM_CONVS and MODEL.FPN.OUT_CHANNELS")),
        (_ANY, r"backbone\.fpn_.*", _check("MODEL.FPN.IN_FEATURES")),
        (_SHAPE, r"backbone\.fpn_.*",
         _check("MODEL.FPN.OUT_CHANNELS and MODEL.RESNETS.RES2_OUT_CHANNELS")),
        (_BOTH, r".*\bstem\..*",
         _check("MODEL.RESNETS.STEM_OUT_CHANNELS and the length of MODEL.PIXEL_MEAN")),
        (_ANY, _STAGE, _block),
        (_SHAPE, r".*\.conv2_offset\..*", _offset_shape),
        (_SHAPE, r".*\bres\d\..*",
         _check("MODEL.RESNETS.DEPTH, WIDTH_PER_GROUP, NUM_GROUPS and RES2_OUT_CHANNELS")),
        (_SHAPE, r"sem_seg_head\..*",
         _check("MODEL.SEM_SEG_HEAD.CONVS_DIM and MODEL.FPN.OUT_CHANNELS")),
    )
)  # fmt: skip


def _classes(file: int, model: int, key: str) -> str:
    return f"the file has {file} classes but {key} is {model}"


def _num_classes(shapes: Shapes) -> int | None:
    """K, from the rows of the box classifier."""
    for prefix in ("roi_heads.box_predictor.", "roi_heads.box_predictor.0."):
        shape = shapes.get(prefix + "cls_score.weight")
        if shape:
            return shape[0] - 1
    return None

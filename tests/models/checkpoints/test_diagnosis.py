"""The config key that an error names, for tensors with Detectron2's names."""

import pytest

from models.checkpoints.diagnosis import diagnose

Shapes = dict[str, tuple[int, ...]]


def detector(classes: int = 80, *, shared_box: bool = False, shared_mask: bool = False) -> Shapes:
    """A Mask R-CNN with a tiny ResNet-50 and FPN."""
    shapes: Shapes = {}
    body = "backbone.bottom_up."
    for stage, blocks in (("res2", 3), ("res4", 6)):
        for block in range(blocks):
            for conv in ("conv1", "conv2", "conv3"):
                norms = ("weight", "bias", "running_mean", "running_var")
                shapes[f"{body}{stage}.{block}.{conv}.weight"] = (64, 64, 1, 1)
                shapes |= {f"{body}{stage}.{block}.{conv}.norm.{n}": (64,) for n in norms}
    shapes[f"{body}stem.conv1.weight"] = (64, 3, 7, 7)
    for level in (2, 4):
        shapes |= module(f"backbone.fpn_lateral{level}", 256, 64, 1, 1)
    rpn = "proposal_generator.rpn_head."
    shapes |= module(f"{rpn}conv", 256, 256, 3, 3)
    shapes |= module(f"{rpn}objectness_logits", 3, 256, 1, 1)
    shapes |= module(f"{rpn}anchor_deltas", 12, 256, 1, 1)
    shapes |= module("roi_heads.box_head.fc1", 1024, 12544)
    shapes |= module("roi_heads.box_predictor.cls_score", classes + 1, 1024)
    shapes |= module("roi_heads.box_predictor.bbox_pred", 4 if shared_box else 4 * classes, 1024)
    shapes |= module("roi_heads.mask_head.mask_fcn1", 256, 256, 3, 3)
    shapes |= module("roi_heads.mask_head.predictor", 1 if shared_mask else classes, 256, 1, 1)
    return shapes


def module(name: str, *shape: int) -> Shapes:
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}


def without(shapes: Shapes, *prefixes: str) -> Shapes:
    return {name: shape for name, shape in shapes.items() if not name.startswith(prefixes)}


def hints(*, file: Shapes, model: Shapes) -> list[str]:
    found: list[str] = diagnose("model.pth", model=model, file=file).details["hints"]
    return found


def test_another_number_of_classes_is_one_sentence() -> None:
    expected = ["the file has 3 classes but MODEL.ROI_HEADS.NUM_CLASSES is 80"]
    assert hints(file=detector(3), model=detector(80)) == expected


def test_one_class_is_not_taken_for_class_agnostic() -> None:
    expected = ["the file has 1 classes but MODEL.ROI_HEADS.NUM_CLASSES is 80"]
    assert hints(file=detector(1), model=detector(80)) == expected
    expected = ["the file has 80 classes but MODEL.ROI_HEADS.NUM_CLASSES is 1"]
    assert hints(file=detector(80), model=detector(1)) == expected


@pytest.mark.parametrize("shared", [True, False])
def test_class_agnostic_boxes_and_masks(shared: bool) -> None:
    number = "for all classes" if shared else "per class"
    assert hints(file=detector(shared_box=shared), model=detector(shared_box=not shared)) == [
        f"the file predicts one box {number} but MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG is "
        f"{not shared}"
    ]
    assert hints(file=detector(shared_mask=shared), model=detector(shared_mask=not shared)) == [
        f"the file predicts one mask {number} but MODEL.ROI_MASK_HEAD.CLS_AGNOSTIC_MASK is "
        f"{not shared}"
    ]


def test_a_cascade_of_another_number_of_classes() -> None:
    sides = []
    for classes in (3, 80):
        cascade = without(detector(classes), "roi_heads.box_")
        for stage in range(3):
            name = f"roi_heads.box_predictor.{stage}"
            cascade |= module(f"{name}.cls_score", classes + 1, 1024)
            cascade |= module(f"{name}.bbox_pred", 4, 1024)
        sides.append(cascade)
    expected = ["the file has 3 classes but MODEL.ROI_HEADS.NUM_CLASSES is 80"]
    assert hints(file=sides[0], model=sides[1]) == expected


def test_retinanet_classes_are_counted_per_anchor() -> None:
    file = module("head.cls_score", 9 * 3, 256, 3, 3) | module("head.bbox_pred", 36, 256, 3, 3)
    model = module("head.cls_score", 9 * 80, 256, 3, 3) | module("head.bbox_pred", 36, 256, 3, 3)
    expected = ["the file has 3 classes but MODEL.RETINANET.NUM_CLASSES is 80"]
    assert hints(file=file, model=model) == expected


def test_semantic_classes() -> None:
    file = module("sem_seg_head.predictor", 19, 128, 1, 1)
    model = module("sem_seg_head.predictor", 54, 128, 1, 1)
    expected = ["the file has 19 classes but MODEL.SEM_SEG_HEAD.NUM_CLASSES is 54"]
    assert hints(file=file, model=model) == expected


@pytest.mark.parametrize(
    ("prefix", "key"),
    [
        ("roi_heads.mask_head.", "mask head but MODEL.MASK_ON is"),
        ("roi_heads.keypoint_head.", "keypoint head but MODEL.KEYPOINT_ON is"),
    ],
)
def test_a_head_that_one_side_lacks(prefix: str, key: str) -> None:
    full = detector() | module("roi_heads.keypoint_head.conv_fcn1", 512, 256, 3, 3)
    less = without(full, prefix)
    assert hints(file=less, model=full) == [f"the file has no {key} True"]
    assert hints(file=full, model=less) == [f"the file has a {key} False"]


def test_a_file_without_feature_pyramid_is_one_hint_about_the_backbone() -> None:
    model = detector()
    file = {n.replace("bottom_up.", ""): s for n, s in model.items() if ".fpn_" not in n}
    found = hints(file=file, model=model)
    assert len(found) == 1
    assert "MODEL.BACKBONE.NAME" in found[0]


def test_a_keypoint_count() -> None:
    name = "roi_heads.keypoint_head.score_lowres"
    file = {f"{name}.weight": (512, 5, 4, 4), f"{name}.bias": (5,)}
    model = {f"{name}.weight": (512, 17, 4, 4), f"{name}.bias": (17,)}
    expected = ["the file has 5 keypoints but MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS is 17"]
    assert hints(file=file, model=model) == expected


def test_a_deeper_backbone() -> None:
    file = detector()
    block = {n: s for n, s in file.items() if ".res4.0." in n}
    for index in range(6, 23):
        file |= {name.replace(".0.", f".{index}."): shape for name, shape in block.items()}
    assert hints(file=file, model=detector()) == [
        "the file has 23 blocks in res4 and the model has 6: check MODEL.RESNETS.DEPTH"
    ]


BODY = "backbone.bottom_up."
RPN = "proposal_generator.rpn_head."


@pytest.mark.parametrize(
    ("change", "key"),
    [
        (module(f"{RPN}objectness_logits", 15, 256, 1, 1), "MODEL.ANCHOR_GENERATOR.SIZES"),
        (module(f"{RPN}anchor_deltas", 60, 256, 1, 1), "MODEL.ANCHOR_GENERATOR.SIZES"),
        (module(f"{RPN}conv.conv0", 256, 256, 3, 3), "MODEL.RPN.CONV_DIMS"),
        (module("roi_heads.box_head.fc2", 1024, 1024), "MODEL.ROI_BOX_HEAD.NUM_FC"),
        (module("roi_heads.box_head.conv1", 256, 256, 3, 3), "MODEL.ROI_BOX_HEAD.NUM_CONV"),
        (module("roi_heads.box_head.fc1", 512, 12544), "MODEL.ROI_BOX_HEAD.FC_DIM"),
        (module("roi_heads.box_head.fc1", 1024, 50176), "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION"),
        (module("roi_heads.mask_head.mask_fcn5", 256, 256, 3, 3), "MODEL.ROI_MASK_HEAD.NUM_CONV"),
        (module("backbone.fpn_lateral4", 128, 64, 1, 1), "MODEL.FPN.OUT_CHANNELS"),
        (module("backbone.fpn_lateral3", 256, 64, 1, 1), "MODEL.FPN.IN_FEATURES"),
        ({f"{BODY}stem.conv1.weight": (32, 3, 7, 7)}, "MODEL.RESNETS.STEM_OUT_CHANNELS"),
        ({f"{BODY}res2.0.conv2.weight": (256, 8, 3, 3)}, "NUM_GROUPS"),
        ({f"{BODY}res4.0.conv2_offset.weight": (18, 64, 3, 3)}, "DEFORM_ON_PER_STAGE"),
        ({"backbone.fpn_lateral2.norm.weight": (256,)}, "MODEL.FPN.NORM"),
        ({"roi_heads.box_head.fc1.norm.weight": (9,)}, "MODEL.ROI_BOX_HEAD.NORM"),
        ({"roi_heads.mask_head.mask_fcn1.norm.weight": (9,)}, "MODEL.ROI_MASK_HEAD.NORM"),
    ],
)
def test_a_difference_names_its_key(change: Shapes, key: str) -> None:
    (hint,) = set(hints(file=detector() | change, model=detector()))
    assert key in hint


def test_running_statistics_on_one_side_mean_another_norm() -> None:
    model = {n: s for n, s in detector().items() if ".running_" not in n}
    assert hints(file=detector(), model=model) == [
        "the file has the running statistics of a batch norm and the model has none: "
        "check MODEL.RESNETS.NORM"
    ]
    assert "MODEL.RESNETS.NORM" in hints(file=model, model=detector())[0]


def test_tensors_are_grouped_by_module() -> None:
    file = without(detector(), f"{BODY}res4.5.")
    message = diagnose("model.pth", model=detector(), file=file).message
    assert "backbone.bottom_up.res4: 15 missing, e.g. 5.conv1.norm.bias" in message


def test_a_file_of_something_else_gives_a_message_of_a_screenful() -> None:
    file = {f"net.{index}.a.weight": (1,) for index in range(500)}
    message = diagnose("model.pth", model=detector(), file=file).message
    assert len(message.splitlines()) < 30
    assert "more groups" in message

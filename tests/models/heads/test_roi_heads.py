"""StandardROIHeads: boxes then masks, given boxes, and configs that do not fit."""

import pytest
import torch

from models import (
    Boxes,
    ImageList,
    Instances,
    ROIHeads,
    ShapeSpec,
    StandardROIHeads,
    build_roi_heads,
    load_config,
)
from models.config import Config
from models.errors import ConfigError
from models.structures.keypoints import heatmaps_to_keypoints

SHAPES = {f"p{i}": ShapeSpec(channels=8, stride=2**i) for i in range(2, 7)}
IMAGES = ImageList(torch.zeros(2, 3, 64, 96), [(64, 96), (60, 90)])


@pytest.fixture
def cfg(shapes_files) -> Config:
    return load_config(shapes_files[0], ["MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0])


def features() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        name: torch.randn(2, 8, 64 // shape.stride, 96 // shape.stride, generator=generator)
        for name, shape in SHAPES.items()
    }


def heads(cfg: Config) -> StandardROIHeads:
    torch.manual_seed(0)
    return build_roi_heads(cfg, SHAPES).eval()


def given(*counts: int) -> list[Instances]:
    box = torch.tensor([[5.0, 6.0, 30.0, 40.0]])
    return [
        Instances(
            size,
            pred_boxes=Boxes(box.repeat(count, 1)),
            pred_classes=torch.zeros(count, dtype=torch.int64),
            scores=torch.ones(count),
        )
        for size, count in zip(IMAGES.image_sizes, counts, strict=True)
    ]


def proposed(*counts: int) -> list[Instances]:
    return [Instances(x.image_size, proposal_boxes=x.pred_boxes) for x in given(*counts)]


def test_proposals_become_detections_with_soft_masks(cfg: Config) -> None:
    detections, losses = heads(cfg)(IMAGES, features(), proposed(3, 2))
    assert losses == {}
    for instances, size in zip(detections, IMAGES.image_sizes, strict=True):
        assert instances.image_size == size
        assert len(instances) > 0
        assert instances.pred_masks.shape == (len(instances), 1, 28, 28)


@pytest.mark.parametrize("counts", [(0, 2), (0, 0)])
def test_images_without_proposals_have_no_detections(cfg: Config, counts: tuple[int, int]) -> None:
    detections, _ = heads(cfg)(IMAGES, features(), proposed(*counts))
    assert [len(x) > 0 for x in detections] == [count > 0 for count in counts]
    assert all(x.pred_masks.shape == (len(x), 1, 28, 28) for x in detections)


def test_without_a_mask_head_there_are_no_masks(cfg: Config) -> None:
    without = heads(cfg.override("MODEL.MASK_ON", False))
    assert not without.mask_on
    detections, _ = without(IMAGES, features(), proposed(1, 1))
    assert not detections[0].has("pred_masks")


def test_given_boxes_get_masks_and_keep_what_they_have(cfg: Config) -> None:
    known = given(2, 1)
    completed = heads(cfg).forward_with_given_boxes(features(), known)
    assert all(a is b for a, b in zip(completed, known, strict=True))
    assert completed[0].pred_masks.shape == (2, 1, 28, 28)
    assert completed[0].scores.tolist() == [1, 1]
    assert torch.equal(completed[0].pred_masks[0], completed[0].pred_masks[1])


def test_given_boxes_get_the_masks_that_detection_gave_them(cfg: Config) -> None:
    roi_heads = heads(cfg)
    detections, _ = roi_heads(IMAGES, features(), proposed(3, 2))
    masks = [x.pred_masks for x in detections]
    for instances in detections:
        instances.remove("pred_masks")
    completed = roi_heads.forward_with_given_boxes(features(), detections)
    for instances, expected in zip(completed, masks, strict=True):
        torch.testing.assert_close(instances.pred_masks, expected)


def test_without_a_mask_head_given_boxes_stay_as_they_are(cfg: Config) -> None:
    (first, _) = heads(cfg.override("MODEL.MASK_ON", False)).forward_with_given_boxes(
        features(), given(1, 0)
    )
    assert not first.has("pred_masks")


def test_a_mask_head_without_a_pooler_gets_whole_feature_maps(cfg: Config) -> None:
    roi_heads = heads(cfg)
    roi_heads.mask_pooler = None
    seen = []
    roi_heads.mask_head.forward = lambda x, instances: seen.append(x) or instances
    roi_heads.forward_with_given_boxes(features(), given(1, 1))
    assert list(seen[0]) == ["p2", "p3", "p4", "p5"]
    assert seen[0]["p2"].shape == (2, 8, 16, 24)


def test_parameter_names_are_those_of_checkpoints(cfg: Config) -> None:
    parents = {name.rsplit(".", 1)[0] for name in heads(cfg).state_dict()}
    assert parents == {
        "box_head.fc1",
        "box_head.fc2",
        "box_predictor.cls_score",
        "box_predictor.bbox_pred",
        "mask_head.mask_fcn1",
        "mask_head.mask_fcn2",
        "mask_head.deconv",
        "mask_head.predictor",
    }


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("MODEL.ROI_HEADS.IN_FEATURES", ["p2", "res5"], "names res5, which the backbone does not"),
        ("MODEL.ROI_HEADS.NAME", "MyHeads", "'MyHeads', which is not in the ROI_HEADS registry"),
        ("MODEL.ROI_BOX_HEAD.POOLER_TYPE", "ROIWarp", "'ROIWarp' is not known"),
        ("MODEL.ROI_MASK_HEAD.NAME", "MyMasks", "not in the ROI_MASK_HEAD registry"),
    ],
)
def test_a_config_that_does_not_fit_the_heads_is_refused(
    cfg: Config, key: str, value: object, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        heads(cfg.override(key, value))


def test_an_unknown_keypoint_head_is_refused(cfg: Config) -> None:
    wrong = cfg.override("MODEL.KEYPOINT_ON", True)
    with pytest.raises(ConfigError, match="not in the ROI_KEYPOINT_HEAD registry"):
        heads(wrong.override("MODEL.ROI_KEYPOINT_HEAD.NAME", "MyKeypoints"))


@pytest.fixture
def keypoint_heads(cfg: Config) -> StandardROIHeads:
    cfg = cfg.override("MODEL.KEYPOINT_ON", True).override("MODEL.MASK_ON", False)
    cfg = cfg.override("MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS", 4)
    return heads(cfg.override("MODEL.ROI_KEYPOINT_HEAD.CONV_DIMS", [8]))


def test_with_a_keypoint_head_detections_have_keypoints(keypoint_heads: StandardROIHeads) -> None:
    detections, _ = keypoint_heads(IMAGES, features(), proposed(3, 0))
    assert [x.pred_keypoints.shape for x in detections] == [(len(detections[0]), 4, 3), (0, 4, 3)]
    assert len(detections[0]) > 0
    assert not detections[0].has("pred_masks")


def test_keypoints_come_from_the_logits_over_the_boxes(keypoint_heads: StandardROIHeads) -> None:
    logits = keypoint_heads.keypoint_logits(features(), given(2, 1))
    assert logits.shape == (3, 4, 56, 56)
    instances = keypoint_heads.forward_with_given_boxes(features(), given(2, 1))
    expected = heatmaps_to_keypoints(logits[2:], instances[1].pred_boxes.tensor)
    torch.testing.assert_close(instances[1].pred_keypoints, expected)


def test_feature_maps_of_one_pooler_have_equal_channels(cfg: Config) -> None:
    shapes = SHAPES | {"p3": ShapeSpec(channels=9, stride=8)}
    with pytest.raises(ConfigError, match=r"equal channels, not \[8, 9\]"):
        build_roi_heads(cfg, shapes)


def test_the_base_alone_detects_and_learns_nothing(cfg: Config) -> None:
    base = ROIHeads(cfg, SHAPES)
    assert base.num_classes == 4
    assert base.proposal_matcher.labels == [0, 1]
    with pytest.raises(NotImplementedError):
        base(IMAGES, features(), proposed(1, 1), given(1, 1))
    with pytest.raises(NotImplementedError):
        base.eval()(IMAGES, features(), proposed(1, 1))


def test_training_without_ground_truth_is_an_error(cfg: Config) -> None:
    with pytest.raises(ValueError, match="need ground truth"):
        heads(cfg).train()(IMAGES, features(), proposed(1, 1))

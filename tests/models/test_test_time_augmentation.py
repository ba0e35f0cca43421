"""Test-time augmentation: views, merging, and a model that stays as it is."""

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_models import tiny_config, tiny_image, tiny_model
from torch import Tensor

from models import Instances, Predictor
from models.config import Config, default_config
from models.errors import ConfigError
from models.test_time_augmentation import (
    DatasetMapperTTA,
    DenseDetectorWithTTA,
    GeneralizedRCNNWithTTA,
    View,
    with_tta,
)

BOXES = torch.tensor([[1.0, 2.0, 11.0, 12.0], [0.0, 0.0, 40.0, 20.0], [30.5, 3.25, 39.0, 19.5]])
PLAIN_SIZE = 96  # the shorter side of tiny_image(): a view of this size is the image itself


# Views


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("size", [(20, 40), (40, 80), (31, 17)])
def test_boxes_come_back_from_a_view(size: tuple[int, int], flip: bool) -> None:
    view = View(original_size=(20, 40), size=size, flip=flip)
    torch.testing.assert_close(view.inverse_box(view.apply_box(BOXES)), BOXES)


def test_a_mirrored_view_swaps_left_and_right_after_the_scale() -> None:
    view = View(original_size=(20, 40), size=(40, 120), flip=True)
    assert view.apply_box(BOXES[:1]).tolist() == [[120 - 33, 4, 120 - 3, 24]]


def test_views_are_ordered_by_size_each_plain_and_then_mirrored() -> None:
    mapper = DatasetMapperTTA(min_sizes=[48, 96, 144], max_size=180, flip=True)
    views = mapper({"image": tiny_image(), "file_name": "a.png"})
    assert [(v["view"].size, v["view"].flip) for v in views] == [
        ((48, 64), False),
        ((48, 64), True),
        ((96, 128), False),
        ((96, 128), True),
        ((135, 180), False),  # capped by max_size
        ((135, 180), True),
    ]
    for view in views:
        assert tuple(view["image"].shape[1:]) == view["view"].size
        assert view["view"].original_size == (96, 128)
        assert view["file_name"] == "a.png"
    assert torch.equal(views[1]["image"], views[0]["image"].flip(2))


def test_without_flip_each_size_comes_once() -> None:
    views = DatasetMapperTTA([48, 96], 1000, False)({"image": tiny_image()})
    assert [view["view"].flip for view in views] == [False, False]


def test_answers_are_wanted_in_the_size_that_the_input_names() -> None:
    (view,) = DatasetMapperTTA([48], 1000, False)(
        {"image": tiny_image(), "height": 480, "width": 640}
    )
    assert view["view"] == View((480, 640), (48, 64), False)


def test_bytes_are_resized_by_pillow_and_floats_without_antialiasing() -> None:
    image = tiny_image()
    mapper = DatasetMapperTTA([36], 1000, False)
    (view,) = mapper({"image": image})
    pixels = Image.fromarray(image.permute(1, 2, 0).numpy())
    expected = np.asarray(pixels.resize((48, 36), Image.Resampling.BILINEAR))
    assert view["image"].dtype == torch.uint8
    assert np.array_equal(view["image"].permute(1, 2, 0).numpy(), expected)
    (view,) = mapper({"image": image.float()})
    expected = torch.nn.functional.interpolate(
        image[None].float(), size=(36, 48), mode="bilinear", align_corners=False, antialias=False
    )
    torch.testing.assert_close(view["image"], expected[0])


def test_the_config_says_which_views() -> None:
    mapper = DatasetMapperTTA(default_config())
    assert mapper.min_sizes == [400, 500, 600, 700, 800, 900, 1000, 1100, 1200]
    assert (mapper.max_size, mapper.flip) == (4000, True)


# R-CNN


@pytest.fixture(scope="module")
def cfg() -> Config:
    return tiny_config(TEST__AUG__MIN_SIZES=(64, PLAIN_SIZE), TEST__AUG__FLIP=True)


@pytest.fixture(scope="module")
def rcnn() -> Any:
    return tiny_model(MASK_ON=True)


@pytest.fixture(scope="module")
def keypoint_rcnn() -> Any:
    return tiny_model(KEYPOINT_ON=True)


@pytest.fixture(scope="module")
def retinanet() -> Any:
    return tiny_model(META_ARCHITECTURE="RetinaNet", RETINANET__SCORE_THRESH_TEST=0.3)


def one(answers: list[dict[str, Any]]) -> Instances:
    (answer,) = answers
    assert list(answer) == ["instances"]
    return answer["instances"]


def plain_view(flip: bool = False) -> DatasetMapperTTA:
    return DatasetMapperTTA([PLAIN_SIZE], 1000, flip)


def assert_same_detections(ours: Instances, expected: Instances) -> None:
    assert len(expected) > 0
    assert ours.image_size == expected.image_size
    assert ours.pred_classes.tolist() == expected.pred_classes.tolist()
    torch.testing.assert_close(ours.scores, expected.scores)
    torch.testing.assert_close(ours.pred_boxes.tensor, expected.pred_boxes.tensor)


def mirrored(boxes: Tensor, width: int = 128) -> Tensor:
    return torch.stack((width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]), dim=1)


@pytest.mark.parametrize("kind", ["rcnn", "keypoint_rcnn", "retinanet"])
def test_one_plain_view_is_the_model_itself(
    cfg: Config, kind: str, request: pytest.FixtureRequest
) -> None:
    model = request.getfixturevalue(kind)
    inputs = [{"image": tiny_image()}]
    ours, expected = one(with_tta(cfg, model, plain_view())(inputs)), one(model(inputs))
    assert_same_detections(ours, expected)
    if expected.has("pred_masks"):
        assert torch.equal(ours.pred_masks, expected.pred_masks)
    if expected.has("pred_keypoints"):
        torch.testing.assert_close(ours.pred_keypoints, expected.pred_keypoints)


@pytest.mark.parametrize("kind", ["rcnn", "retinanet"])
def test_a_mirrored_picture_has_mirrored_answers(
    cfg: Config, kind: str, request: pytest.FixtureRequest
) -> None:
    wrapped = with_tta(cfg, request.getfixturevalue(kind), plain_view(flip=True))
    image = tiny_image()
    there, back = (one(wrapped([{"image": x}])) for x in (image, image.flip(2)))
    assert len(there) > 0
    assert back.pred_classes.tolist() == there.pred_classes.tolist()
    torch.testing.assert_close(back.scores, there.scores)
    torch.testing.assert_close(
        mirrored(back.pred_boxes.tensor), there.pred_boxes.tensor, rtol=0, atol=1e-3
    )
    if there.has("pred_masks"):
        differing = (back.pred_masks.flip(2) != there.pred_masks).float().mean()
        assert differing < 1e-4  # pixels on the threshold


def test_a_batch_of_views_gives_what_single_views_give(cfg: Config, rcnn: Any) -> None:
    inputs = [{"image": tiny_image()}]
    mapper = plain_view(flip=True)  # both views have one padded size
    together = GeneralizedRCNNWithTTA(cfg, rcnn, mapper, batch_size=3)
    alone = GeneralizedRCNNWithTTA(cfg, rcnn, mapper, batch_size=1)
    assert_same_detections(one(together(inputs)), one(alone(inputs)))


def test_masks_are_the_mean_over_the_views(cfg: Config, rcnn: Any) -> None:
    image = tiny_image()
    ours = one(GeneralizedRCNNWithTTA(cfg, rcnn, plain_view(flip=True)).predict([{"image": image}]))
    expected = torch.zeros_like(ours.pred_masks)
    for flip in (False, True):
        boxes = type(ours.pred_boxes)(
            mirrored(ours.pred_boxes.tensor) if flip else ours.pred_boxes.tensor
        )
        known = Instances((96, 128), pred_boxes=boxes, pred_classes=ours.pred_classes)
        view = {"image": image.flip(2) if flip else image}
        (found,) = rcnn.inference([view], [known], do_postprocess=False)
        expected += (found.pred_masks.flip(3) if flip else found.pred_masks) / 2
    assert len(ours) > 0
    torch.testing.assert_close(ours.pred_masks, expected)


def test_predict_is_the_call_with_soft_masks(cfg: Config, rcnn: Any) -> None:
    wrapped = GeneralizedRCNNWithTTA(cfg, rcnn)
    inputs = [{"image": tiny_image(), "height": 48, "width": 64}]
    soft, called = one(wrapped.predict(inputs)), one(wrapped(inputs))
    assert_same_detections(soft, called)
    assert soft.pred_masks.shape == (len(called), 1, 28, 28)
    assert called.pred_masks.shape == (len(called), 48, 64)


def test_merging_keeps_the_threshold_of_the_model_and_its_number_of_detections(
    cfg: Config, rcnn: Any
) -> None:
    found = one(GeneralizedRCNNWithTTA(cfg, rcnn)([{"image": tiny_image()}]))
    assert found.scores.min() > 0.2  # as in the config
    assert 0 < len(found) <= 20
    assert found.scores.tolist() == sorted(found.scores.tolist())[::-1]


def test_each_image_of_a_batch_is_answered(cfg: Config, rcnn: Any) -> None:
    wrapped = GeneralizedRCNNWithTTA(cfg, rcnn)
    images = [{"image": tiny_image(seed=1)}, {"image": tiny_image(64, 72, seed=2)}]
    both = wrapped(images)
    assert [answer["instances"].image_size for answer in both] == [(96, 128), (64, 72)]
    assert_same_detections(both[0]["instances"], one(wrapped(images[:1])))


def test_a_picture_in_which_nothing_is_found_has_empty_fields(cfg: Config) -> None:
    quiet = tiny_model(MASK_ON=True, ROI_HEADS__SCORE_THRESH_TEST=1.0)
    found = one(GeneralizedRCNNWithTTA(cfg, quiet)([{"image": tiny_image()}]))
    assert len(found) == 0
    assert found.pred_masks.shape == (0, 96, 128)


def state(model: Any) -> dict[str, Any]:
    """All that an answer depends on."""
    return {
        "tensors": {name: value.clone() for name, value in model.state_dict().items()},
        "flags": (model.training, model.roi_heads.mask_on, model.roi_heads.keypoint_on),
        "modules": [name for name, _ in model.named_modules()],
    }


def assert_unchanged(model: Any, before: dict[str, Any]) -> None:
    after = state(model)
    assert after["flags"] == before["flags"]
    assert after["modules"] == before["modules"]
    assert all(torch.equal(after["tensors"][name], x) for name, x in before["tensors"].items())


def test_the_model_stays_as_it_is(cfg: Config, rcnn: Any) -> None:
    before = state(rcnn)
    GeneralizedRCNNWithTTA(cfg, rcnn)([{"image": tiny_image()}])
    assert_unchanged(rcnn, before)


@pytest.mark.parametrize("part", ["backbone", "proposal_generator", "roi_heads.mask_head"])
def test_the_model_stays_as_it_is_after_an_error(
    cfg: Config, rcnn: Any, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = [{"image": tiny_image()}]
    before, expected = state(rcnn), one(rcnn(inputs))

    def fail(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("out of memory")

    with monkeypatch.context() as patched:
        patched.setattr(rcnn.get_submodule(part), "forward", fail)
        with pytest.raises(RuntimeError, match="out of memory"):
            GeneralizedRCNNWithTTA(cfg, rcnn)(inputs)
    assert_unchanged(rcnn, before)
    answer = one(rcnn(inputs))
    assert_same_detections(answer, expected)
    assert answer.has("pred_masks")


def test_the_trained_model_finds_the_same_things_and_more_surely(
    shapes_predictor: Predictor, shapes_picture: np.ndarray
) -> None:
    image = shapes_predictor.preprocess(shapes_picture)
    plain = one(shapes_predictor.model([{"image": image}]))
    sizes = DatasetMapperTTA([160, 192, 224], 400, True)
    wrapped = GeneralizedRCNNWithTTA(shapes_predictor.cfg, shapes_predictor.model, sizes)
    ours = one(wrapped([{"image": image}]))
    for kind in (plain, ours):
        sure = kind[kind.scores > 0.8]
        assert len(sure) > 0
    assert sorted(ours.pred_classes[ours.scores > 0.8].tolist()) == sorted(
        plain.pred_classes[plain.scores > 0.8].tolist()
    )


# Keypoints, which Detectron2 refuses


def test_mirrored_views_do_not_count_for_keypoints_without_a_flip_map(
    cfg: Config, keypoint_rcnn: Any
) -> None:
    image = tiny_image()
    wrapped = GeneralizedRCNNWithTTA(cfg, keypoint_rcnn, plain_view(flip=True))
    ours = one(wrapped([{"image": image}]))
    known = Instances((96, 128), pred_boxes=ours.pred_boxes, pred_classes=ours.pred_classes)
    (expected,) = keypoint_rcnn.inference([{"image": image}], [known], do_postprocess=False)
    assert len(ours) > 0
    torch.testing.assert_close(ours.pred_keypoints, expected.pred_keypoints)


def test_a_mirrored_person_has_left_and_right_swapped(cfg: Config, keypoint_rcnn: Any) -> None:
    swap = [1, 0, 2, 3]
    wrapped = GeneralizedRCNNWithTTA(cfg, keypoint_rcnn, plain_view(flip=True), keypoint_flip=swap)
    image = tiny_image()
    there, back = (one(wrapped([{"image": x}])) for x in (image, image.flip(2)))
    assert len(there) > 0
    expected = there.pred_keypoints[:, swap].clone()
    expected[:, :, 0] = 128 - expected[:, :, 0]
    torch.testing.assert_close(back.pred_keypoints, expected, rtol=0, atol=1e-3)


def test_a_flip_map_lets_mirrored_views_count(cfg: Config, keypoint_rcnn: Any) -> None:
    inputs = [{"image": tiny_image()}]
    without = GeneralizedRCNNWithTTA(cfg, keypoint_rcnn, plain_view(flip=True))
    with_map = GeneralizedRCNNWithTTA(
        cfg, keypoint_rcnn, plain_view(flip=True), keypoint_flip=[0, 1, 2, 3]
    )
    first, second = one(without(inputs)), one(with_map(inputs))
    assert_same_detections(second, first)
    assert not torch.equal(first.pred_keypoints, second.pred_keypoints)


def test_keypoints_come_at_the_size_that_is_asked_for(cfg: Config, keypoint_rcnn: Any) -> None:
    wrapped = GeneralizedRCNNWithTTA(cfg, keypoint_rcnn)
    found = one(wrapped([{"image": tiny_image(), "height": 960, "width": 1280}]))
    assert found.image_size == (960, 1280)
    boxes = found.pred_boxes.tensor[:, None]
    x, y = found.pred_keypoints[..., 0], found.pred_keypoints[..., 1]
    assert ((x >= boxes[..., 0]) & (x <= boxes[..., 2])).all()
    assert ((y >= boxes[..., 1]) & (y <= boxes[..., 3])).all()


# Dense detectors, which Detectron2 refuses


def test_a_dense_detector_merges_its_views(cfg: Config, retinanet: Any) -> None:
    before = {name: value.clone() for name, value in retinanet.state_dict().items()}
    wrapped = DenseDetectorWithTTA(cfg, retinanet)
    found = one(wrapped([{"image": tiny_image(), "height": 480, "width": 640}]))
    assert found.image_size == (480, 640)
    assert 0 < len(found) <= 20
    assert found.scores.min() > 0.3
    assert all(torch.equal(retinanet.state_dict()[name], x) for name, x in before.items())


# Refusals


def test_a_model_without_test_time_augmentation_is_refused(cfg: Config, retinanet: Any) -> None:
    semantic = tiny_model(META_ARCHITECTURE="SemanticSegmentor")
    with pytest.raises(ConfigError, match="no test-time augmentation for SemanticSegmentor"):
        with_tta(cfg, semantic)
    with pytest.raises(ConfigError, match="takes a GeneralizedRCNN, not a RetinaNet"):
        GeneralizedRCNNWithTTA(cfg, retinanet)


def test_given_proposals_fit_one_view_only(cfg: Config) -> None:
    model = tiny_model(PROPOSAL_GENERATOR__NAME="PrecomputedProposals")
    with pytest.raises(ConfigError, match="makes its own proposals"):
        with_tta(cfg, model)


def test_rotated_boxes_are_refused(cfg: Config, rcnn: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = (10.0, 10.0, 5.0, 5.0, 1.0)
    transform = rcnn.roi_heads.box_predictor.box2box_transform
    monkeypatch.setattr(transform, "weights", weights)
    with pytest.raises(ConfigError, match="does not know the RoI heads StandardROIHeads"):
        with_tta(cfg, rcnn)


def test_a_batch_holds_at_least_one_view(cfg: Config, rcnn: Any) -> None:
    with pytest.raises(ValueError, match="batch_size is at least 1, not 0"):
        GeneralizedRCNNWithTTA(cfg, rcnn, batch_size=0)

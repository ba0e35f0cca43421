"""GeneralizedRCNN: inference in all its forms, and components that a user plugs in."""

from typing import Any

import numpy as np
import pytest
import torch
from tiny_models import PlainPyramid, tiny_image, tiny_model

from models import (
    META_ARCH_REGISTRY,
    ROI_HEADS_REGISTRY,
    Boxes,
    GeneralizedRCNN,
    Instances,
    Predictor,
    ShapeSpec,
    StandardROIHeads,
    build_model,
    load_config,
)
from models.config import Config
from models.errors import ConfigError


@ROI_HEADS_REGISTRY.register()
class FirstProposalHeads(StandardROIHeads):
    """Keeps one detection per image and says where it came from: a user's own heads."""

    def __init__(self, cfg: Config, input_shape: dict[str, ShapeSpec]) -> None:
        super().__init__(cfg, input_shape)

    def forward(self, images, features, proposals, targets=None):
        first = [proposals_per_image[:1] for proposals_per_image in proposals]
        instances, losses = super().forward(images, features, first, targets)
        for one in instances:
            one.marks = ["mine"] * len(one)
        return instances, losses


@pytest.fixture
def model(shapes_predictor: Predictor) -> GeneralizedRCNN:
    return shapes_predictor.model


@pytest.fixture
def inputs(shapes_predictor: Predictor, shapes_picture: np.ndarray) -> list[dict[str, Any]]:
    """Two images of different sizes, resized for the model."""
    pictures = [shapes_picture, np.ascontiguousarray(shapes_picture[:150, 40:])]
    return [
        {"image": shapes_predictor.preprocess(picture), "height": 100, "width": 300}
        for picture in pictures
    ]


def test_each_image_has_its_instances(model: GeneralizedRCNN, inputs: list) -> None:
    answers = model(inputs)
    assert [list(answer) for answer in answers] == [["instances"], ["instances"]]
    for answer in answers:
        instances = answer["instances"]
        assert len(instances) > 0
        assert instances.image_size == (100, 300)
        assert instances.pred_masks.shape == (len(instances), 100, 300)
        assert instances.pred_masks.dtype == torch.bool
        assert instances.pred_classes.dtype == torch.int64


def test_without_height_and_width_the_answer_is_in_pixels_of_the_input(
    model: GeneralizedRCNN, inputs: list
) -> None:
    image = inputs[0]["image"]
    instances = model([{"image": image}])[0]["instances"]
    assert instances.image_size == tuple(image.shape[1:])


def test_height_and_width_scale_boxes_alone(model: GeneralizedRCNN, inputs: list) -> None:
    image = inputs[0]["image"]
    height, width = image.shape[1:]
    plain = model([{"image": image}])[0]["instances"]
    scaled = model([{"image": image, "height": 2 * height, "width": 3 * width}])[0]["instances"]
    factors = torch.tensor([3.0, 2.0, 3.0, 2.0])
    torch.testing.assert_close(scaled.pred_boxes.tensor, plain.pred_boxes.tensor * factors)
    assert torch.equal(scaled.scores, plain.scores)


def test_without_postprocessing_masks_are_soft_and_boxes_in_pixels_of_the_input(
    model: GeneralizedRCNN, inputs: list
) -> None:
    for raw, given in zip(model.inference(inputs, do_postprocess=False), inputs, strict=True):
        assert raw.image_size == tuple(given["image"].shape[1:])
        assert raw.pred_masks.shape == (len(raw), 1, 28, 28)
        assert raw.pred_masks.is_floating_point()
        assert 0 <= raw.pred_masks.min() <= raw.pred_masks.max() <= 1


def test_inference_keeps_no_graph(model: GeneralizedRCNN, inputs: list) -> None:
    assert not model.inference(inputs)[0]["instances"].scores.requires_grad


def test_known_boxes_get_the_masks_that_detection_gave_them(
    model: GeneralizedRCNN, inputs: list
) -> None:
    detected = model.inference(inputs, do_postprocess=False)
    known = [
        Instances(x.image_size, pred_boxes=x.pred_boxes, pred_classes=x.pred_classes)
        for x in detected
    ]
    completed = model.inference(inputs, known, do_postprocess=False)
    for ours, expected in zip(completed, detected, strict=True):
        torch.testing.assert_close(ours.pred_masks, expected.pred_masks)
    assert not known[0].has("pred_masks")


def test_known_boxes_are_postprocessed_too(model: GeneralizedRCNN, inputs: list) -> None:
    size = tuple(inputs[0]["image"].shape[1:])
    known = Instances(
        size, pred_boxes=Boxes(torch.tensor([[0, 0, 10, 10]])), pred_classes=torch.tensor([1])
    )
    (answer,) = model.inference(inputs[:1], [known])
    completed = answer["instances"]
    assert completed.image_size == (100, 300)
    assert completed.pred_masks.shape == (1, 100, 300)


def test_no_known_boxes_are_no_error(model: GeneralizedRCNN, inputs: list) -> None:
    none = Instances(
        tuple(inputs[0]["image"].shape[1:]),
        pred_boxes=Boxes(torch.zeros(0, 4)),
        pred_classes=torch.zeros(0, dtype=torch.int64),
    )
    (answer,) = model.inference(inputs[:1], [none])
    assert answer["instances"].pred_masks.shape == (0, 100, 300)


def test_images_are_normalised_before_they_are_padded(model: GeneralizedRCNN, inputs: list) -> None:
    images = model.preprocess_image(inputs)
    image = inputs[1]["image"]
    height, width = image.shape[1:]
    assert images.tensor.shape[-2] % 32 == images.tensor.shape[-1] % 32 == 0
    expected = (image - model.pixel_mean) / model.pixel_std
    assert torch.equal(images.tensor[1, :, :height, :width], expected)
    assert not images.tensor[1, :, height:].any()
    assert not images.tensor[1, :, :, width:].any()


def test_mean_and_deviation_are_not_in_checkpoints(model: GeneralizedRCNN) -> None:
    assert not [name for name in model.state_dict() if "pixel" in name]


def test_a_model_is_built_in_evaluation_mode(shapes_files) -> None:
    assert not build_model(load_config(shapes_files[0])).training


def test_mean_and_deviation_have_one_value_for_each_channel(model: GeneralizedRCNN) -> None:
    with pytest.raises(ValueError, match="different lengths"):
        GeneralizedRCNN(
            backbone=model.backbone,
            proposal_generator=model.proposal_generator,
            roi_heads=model.roi_heads,
            pixel_mean=[0.0, 0.0, 0.0],
            pixel_std=[1.0],
        )


def test_an_unknown_architecture_is_refused(shapes_files) -> None:
    cfg = load_config(shapes_files[0], ["MODEL.META_ARCHITECTURE", "RetinaNett"])
    with pytest.raises(ConfigError, match="'RetinaNett', which is not in the META_ARCH registry"):
        build_model(cfg)


def test_a_registered_backbone_is_used(shapes_files) -> None:
    torch.manual_seed(0)
    cfg = load_config(
        shapes_files[0],
        ["MODEL.BACKBONE.NAME", "PlainPyramid", "MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0],
    )
    predictor = Predictor(build_model(cfg), cfg)
    assert isinstance(predictor.model.backbone, PlainPyramid)
    assert predictor.preprocess.size_divisibility == 64
    instances = predictor(np.full((100, 130, 3), 90, dtype=np.uint8))
    assert len(instances) > 0
    assert instances.pred_masks.shape == (len(instances), 100, 130)


def test_registered_roi_heads_are_used(shapes_files, shapes_picture: np.ndarray) -> None:
    predictor = Predictor.from_files(
        *shapes_files, device="cpu", overrides=["MODEL.ROI_HEADS.NAME", "FirstProposalHeads"]
    )
    instances = predictor(shapes_picture)
    assert isinstance(predictor.model.roi_heads, FirstProposalHeads)
    assert len(instances) == 1
    assert instances.marks == ["mine"]


def test_a_registered_architecture_is_used(shapes_files, monkeypatch: pytest.MonkeyPatch) -> None:
    class QuietRCNN(GeneralizedRCNN):
        """Detects nothing that scores below 0.5."""

        def detect(self, *args, **kwargs):
            return [x[x.scores > 0.5] for x in super().detect(*args, **kwargs)]

    monkeypatch.setitem(META_ARCH_REGISTRY._components, "QuietRCNN", QuietRCNN)
    cfg = load_config(shapes_files[0], ["MODEL.META_ARCHITECTURE", "QuietRCNN"])
    assert isinstance(build_model(cfg), QuietRCNN)


def test_inference_with_postprocessing_is_the_call_itself(
    model: GeneralizedRCNN, inputs: list
) -> None:
    for ours, called in zip(model.inference(inputs), model(inputs), strict=True):
        assert list(ours) == list(called) == ["instances"]
        for name, value in called["instances"].get_fields().items():
            other = ours["instances"].get(name)
            same = [getattr(x, "tensor", x) for x in (other, value)]
            assert torch.equal(*same), name


def test_predict_is_the_call_with_soft_masks(model: GeneralizedRCNN, inputs: list) -> None:
    for soft, called in zip(model.predict(inputs), model(inputs), strict=True):
        soft, called = soft["instances"], called["instances"]
        assert soft.pred_masks.shape == (len(called), 1, 28, 28)
        assert soft.image_size == called.image_size == (100, 300)
        assert torch.equal(soft.pred_boxes.tensor, called.pred_boxes.tensor)
        assert torch.equal(soft.scores, called.scores)


def proposals(*boxes: list[float]) -> Instances:
    return Instances(
        (96, 128),
        proposal_boxes=Boxes(torch.tensor(boxes).reshape(-1, 4)),
        objectness_logits=torch.zeros(len(boxes)),
    )


def test_proposals_can_come_with_the_input() -> None:
    model = tiny_model(PROPOSAL_GENERATOR__NAME="PrecomputedProposals")
    assert model.proposal_generator is None
    image = tiny_image()
    given = proposals([10.0, 10.0, 60.0, 50.0], [70.0, 20.0, 120.0, 90.0])
    some, none = model(
        [{"image": image, "proposals": given}, {"image": image, "proposals": proposals()}]
    )
    assert len(some["instances"]) > 0
    assert len(none["instances"]) == 0


def test_given_proposals_are_detected_as_the_generators_are() -> None:
    with_rpn, without = tiny_model(), tiny_model(PROPOSAL_GENERATOR__NAME="PrecomputedProposals")
    without.load_state_dict(with_rpn.state_dict(), strict=False)
    inputs = {"image": tiny_image()}
    images = with_rpn.preprocess_image([inputs])
    features = with_rpn.backbone(images.tensor)
    (given,) = with_rpn.propose(images, features, [inputs])
    expected, ours = with_rpn([inputs]), without([inputs | {"proposals": given}])
    assert len(expected[0]["instances"]) > 0
    assert torch.equal(ours[0]["instances"].scores, expected[0]["instances"].scores)


def test_missing_proposals_are_told_with_the_image() -> None:
    model = tiny_model(PROPOSAL_GENERATOR__NAME="PrecomputedProposals")
    image = tiny_image()
    with pytest.raises(ValueError, match=r"image 1 has none under 'proposals'"):
        model([{"image": image, "proposals": proposals()}, {"image": image}])

"""GeneralizedRCNN: inference in all its forms, and components that a user plugs in."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models import (
    BACKBONE_REGISTRY,
    META_ARCH_REGISTRY,
    ROI_HEADS_REGISTRY,
    Backbone,
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


@BACKBONE_REGISTRY.register()
class PlainPyramid(Backbone):
    """One convolution and its average pools, as levels p2 to p6: a user's own backbone."""

    def __init__(self, cfg: Config, input_shape: ShapeSpec) -> None:
        super().__init__()
        self.conv = nn.Conv2d(input_shape.known_channels, 8, 4, stride=4)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        first = self.conv(x)
        return {f"p{i}": F.avg_pool2d(first, 2 ** (i - 2)) for i in range(2, 7)}

    def output_shape(self) -> dict[str, ShapeSpec]:
        return {f"p{i}": ShapeSpec(channels=8, stride=2**i) for i in range(2, 7)}

    @property
    def size_divisibility(self) -> int:
        return 64


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
    assert not model.inference(inputs)[0].scores.requires_grad


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
    (completed,) = model.inference(inputs[:1], [known])
    assert completed.image_size == (100, 300)
    assert completed.pred_masks.shape == (1, 100, 300)


def test_no_known_boxes_are_no_error(model: GeneralizedRCNN, inputs: list) -> None:
    none = Instances(
        tuple(inputs[0]["image"].shape[1:]),
        pred_boxes=Boxes(torch.zeros(0, 4)),
        pred_classes=torch.zeros(0, dtype=torch.int64),
    )
    assert model.inference(inputs[:1], [none])[0].pred_masks.shape == (0, 100, 300)


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


def test_training_mode_raises(shapes_files, inputs: list) -> None:
    untrained = build_model(load_config(shapes_files[0])).train()
    with pytest.raises(NotImplementedError, match=r"model\.eval\(\)"):
        untrained(inputs)


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
    cfg = load_config(shapes_files[0], ["MODEL.META_ARCHITECTURE", "RetinaNet"])
    with pytest.raises(ConfigError, match="'RetinaNet', which is not in the META_ARCH registry"):
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

        def inference(self, *args, **kwargs):
            return [x[x.scores > 0.5] for x in super().inference(*args, **kwargs)]

    monkeypatch.setitem(META_ARCH_REGISTRY._components, "QuietRCNN", QuietRCNN)
    cfg = load_config(shapes_files[0], ["MODEL.META_ARCHITECTURE", "QuietRCNN"])
    assert isinstance(build_model(cfg), QuietRCNN)

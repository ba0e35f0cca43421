"""MMDetDetector: a detector with mmdetection's interface answers as ours do."""

import sys
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as coco_mask
from torch import Tensor, nn

from models import (
    META_ARCH_REGISTRY,
    Config,
    ConfigError,
    Instances,
    MMDetDetector,
    Predictor,
    build_model,
    load_config,
)
from models.architectures.mmdet_detector import to_instances

MEAN, STD = (100.0, 110.0, 120.0), (50.0, 55.0, 60.0)


class MarkedSquares(nn.Module):
    """Finds what is brighter than grey: class 0 in the left half of an image, class 1 in the right.

    An image of grey has no marks. It works as mmdetection's detectors do: on padded, normalised
    images, with answers scaled by each image's ``scale_factor`` to its ``ori_shape``.
    """

    def __init__(self, with_masks: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.with_masks = with_masks
        self.seen: list[tuple[Tensor, list[dict[str, Any]]]] = []

    def simple_test(self, imgs: Tensor, img_metas: list[dict[str, Any]], rescale: bool) -> list:
        assert rescale
        self.seen.append((imgs, img_metas))
        return [self._detect(*pair) for pair in zip(imgs, img_metas, strict=True)]

    def _detect(self, image: Tensor, meta: dict[str, Any]) -> Any:
        height, width, _ = meta["img_shape"]
        bright = (image[0, :height, :width] > 0).numpy()
        boxes, masks = [], []
        for half, score in ((slice(0, width // 2), 0.6), (slice(width // 2, None), 0.9)):
            inside = np.zeros_like(bright)
            inside[:, half] = bright[:, half]
            ys, xs = np.nonzero(inside)
            rows = [[xs.min(), ys.min(), xs.max() + 1, ys.max() + 1, score]] if len(xs) else []
            table = np.array(rows, dtype=np.float32).reshape(-1, 5)
            table[:, :4] /= meta["scale_factor"]
            size = (meta["ori_shape"][1], meta["ori_shape"][0])
            boxes.append(table)
            masks.append([np.array(Image.fromarray(inside).resize(size)) for _ in rows])
        return (boxes, masks) if self.with_masks else boxes


class ForwardOnly(nn.Module):
    """mmdetection's other entry: lists of batches, one for each view."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = MarkedSquares()

    def forward(self, img: Any, img_metas: Any, return_loss: bool = True, **kwargs: Any) -> Any:
        assert not return_loss
        assert len(img) == len(img_metas) == 1
        return self.inner.simple_test(img[0], img_metas[0], **kwargs)


@META_ARCH_REGISTRY.register()
def build_marked_squares(cfg: Config) -> MMDetDetector:
    return MMDetDetector(
        MarkedSquares(), pixel_mean=cfg.MODEL.PIXEL_MEAN, pixel_std=cfg.MODEL.PIXEL_STD
    )


def wrapped(detector: nn.Module | None = None, **kwargs: Any) -> MMDetDetector:
    return MMDetDetector(
        detector or MarkedSquares(), pixel_mean=MEAN, pixel_std=STD, **kwargs
    ).eval()


def picture(height: int, width: int, *squares: tuple[int, int, int, int]) -> Tensor:
    """(3, H, W) of the mean colour with white boxes x1, y1, x2, y2."""
    image = torch.tensor(MEAN).view(3, 1, 1).repeat(1, height, width)
    for x1, y1, x2, y2 in squares:
        image[:, y1:y2, x1:x2] = 255
    return image


def test_boxes_and_masks_come_out_ordered_by_score() -> None:
    found = wrapped()([{"image": picture(40, 60, (4, 6, 10, 16), (40, 20, 60, 40))}])[0][
        "instances"
    ]
    assert isinstance(found, Instances)
    assert found.image_size == (40, 60)
    assert found.pred_boxes.tensor.tolist() == [[40, 20, 60, 40], [4, 6, 10, 16]]
    torch.testing.assert_close(found.scores, torch.tensor([0.9, 0.6]))
    assert torch.equal(found.pred_classes, torch.tensor([1, 0]))
    assert found.pred_masks.dtype == torch.bool
    expected = torch.zeros(2, 40, 60, dtype=torch.bool)
    expected[0, 20:, 40:] = True
    expected[1, 6:16, 4:10] = True
    assert torch.equal(found.pred_masks, expected)


def test_height_and_width_scale_boxes_and_masks() -> None:
    image = picture(40, 60, (4, 6, 10, 16))
    found = wrapped()([{"image": image, "height": 80, "width": 180}])[0]["instances"]
    assert found.image_size == (80, 180)
    torch.testing.assert_close(found.pred_boxes.tensor, torch.tensor([[12.0, 12.0, 30.0, 32.0]]))
    assert found.pred_masks.shape == (1, 80, 180)
    assert found.pred_masks.sum() == 18 * 20


def test_images_of_two_sizes_share_a_padded_batch() -> None:
    model = wrapped()
    large = {"image": picture(40, 60, (4, 6, 10, 16))}
    small = {"image": picture(20, 30, (20, 2, 30, 12)), "height": 10, "width": 15}
    together = [output["instances"] for output in model([large, small])]
    imgs, metas = model.detector.seen[0]
    assert imgs.shape == (2, 3, 64, 64)
    assert imgs[1, :, 20:].abs().max() == 0
    assert [meta["img_shape"] for meta in metas] == [(40, 60, 3), (20, 30, 3)]
    assert [meta["ori_shape"] for meta in metas] == [(40, 60, 3), (10, 15, 3)]
    assert [meta["pad_shape"] for meta in metas] == [(64, 64, 3)] * 2
    assert [meta["scale_factor"].tolist() for meta in metas] == [[1.0] * 4, [2.0] * 4]
    assert not any(meta["flip"] for meta in metas)
    assert together[1].pred_boxes.tensor.tolist() == [[10, 1, 15, 6]]
    for one, given in zip(together, (large, small), strict=True):
        alone = model([given])[0]["instances"]
        assert torch.equal(one.pred_boxes.tensor, alone.pred_boxes.tensor)
        assert torch.equal(one.pred_masks, alone.pred_masks)


def test_pixels_are_normalised_before_the_padding() -> None:
    model = wrapped(size_divisibility=16)
    model([{"image": torch.full((3, 10, 20), 160.0)}])
    imgs, _ = model.detector.seen[0]
    assert imgs.shape == (1, 3, 16, 32)
    torch.testing.assert_close(imgs[0, :, 0, 0], torch.tensor([1.2, 50 / 55, 40 / 60]))


@pytest.mark.parametrize("with_masks", [True, False])
def test_an_image_without_detections_has_empty_fields(with_masks: bool) -> None:
    model = wrapped(MarkedSquares(with_masks))
    found = model([{"image": picture(20, 30), "height": 50, "width": 70}])[0]["instances"]
    assert len(found) == 0
    assert found.pred_boxes.tensor.shape == (0, 4)
    assert found.pred_classes.dtype == torch.int64
    assert found.has("pred_masks") == with_masks
    if with_masks:
        assert found.pred_masks.shape == (0, 50, 70)


def test_without_simple_test_forward_is_called() -> None:
    inputs = [{"image": picture(40, 60, (4, 6, 10, 16))}]
    ours, theirs = wrapped(ForwardOnly())(inputs), wrapped()(inputs)
    assert torch.equal(ours[0]["instances"].pred_masks, theirs[0]["instances"].pred_masks)


def test_run_length_encoded_masks_and_tensors_are_understood() -> None:
    frame = np.zeros((8, 12), dtype=np.uint8)
    frame[2:5, 3:9] = 1
    rle = coco_mask.encode(np.asfortranarray(frame))
    boxes = [torch.zeros(0, 5), torch.tensor([[3.0, 2.0, 9.0, 5.0, 0.5]])]
    for masks in ([[], [rle]], ([[], [frame.astype(bool)]], [[], [0.4]])):  # the latter: scored
        found = to_instances((boxes, masks), (8, 12))
        assert found.pred_classes.tolist() == [1]
        assert torch.equal(found.pred_masks, torch.from_numpy(frame[None].astype(bool)))


def test_boxes_stay_within_the_image() -> None:
    found = to_instances([np.array([[-1, 2, 12.0001, 9, 0.5]])], (8, 12))
    assert found.pred_boxes.tensor.tolist() == [[0, 2, 12, 8]]


@pytest.mark.parametrize(
    ("result", "error", "message"),
    [
        ({"ins_results": []}, TypeError, "answered with a dict"),
        ([np.zeros((2, 6))], ValueError, r"class 0 have shape \(2, 6\)"),
        (([np.ones((1, 5))], [[]]), ValueError, "0 masks for 1 boxes"),
        (([np.ones((1, 5))], [[np.ones((3, 3))]]), ValueError, r"shape \(3, 3\) in an image of"),
    ],
)
def test_an_answer_of_another_kind_is_an_error(
    result: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        to_instances(result, (8, 12))


def test_a_config_without_mmdetection_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mmdet", None)  # as if not installed, wherever this runs
    with pytest.raises(ConfigError, match=r"\(MaskRCNN\), which needs mmdetection 2.x.*nn\.Module"):
        MMDetDetector({"type": "MaskRCNN"}, pixel_mean=MEAN, pixel_std=STD)


def test_a_module_that_is_no_detector_is_an_error() -> None:
    with pytest.raises(ConfigError, match="Conv2d has neither simple_test"):
        wrapped(nn.Conv2d(3, 3, 1))


def test_it_answers_in_evaluation_mode_only() -> None:
    with pytest.raises(NotImplementedError, match=r"model\.eval\(\)"):
        wrapped().train()([{"image": picture(8, 8)}])


def test_only_the_detector_is_in_its_state_dict() -> None:
    assert list(wrapped().state_dict()) == ["detector.weight"]


def test_a_registered_one_is_named_in_a_config_and_predicts(shapes_files: Any) -> None:
    cfg = load_config(
        shapes_files[0],
        [
            *("MODEL.META_ARCHITECTURE", "build_marked_squares"),
            *("MODEL.PIXEL_MEAN", list(MEAN)),
            *("INPUT.MIN_SIZE_TEST", 80),
        ],
    )
    model: Any = build_model(cfg)
    assert model.device == torch.device("cpu")
    assert model.size_divisibility == 32
    rgb = np.full((40, 60, 3), 80, dtype=np.uint8)
    rgb[20:30, 40:50] = 255
    found = Predictor(model, cfg)(rgb)
    assert found.image_size == (40, 60)
    assert found.pred_masks.shape == (1, 40, 60)
    torch.testing.assert_close(
        found.pred_boxes.tensor, torch.tensor([[40.0, 20.0, 50.0, 30.0]]), atol=1.0, rtol=0
    )

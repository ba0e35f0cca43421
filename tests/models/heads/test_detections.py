"""The choice of detections, against a slow reference and rule by rule."""

import pytest
import torch
from torch import Tensor

from models import Boxes, Instances
from models.heads import detections, fast_rcnn_inference
from models.structures import pairwise_iou

SIZE = (40, 60)


@pytest.fixture(autouse=True, params=[False, True], ids=["one by one", "together"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every rule holds on a CPU, image by image, and as a GPU does it, all at once."""
    monkeypatch.setattr(detections, "pays_together", lambda device: request.param)


def infer(boxes: Tensor, scores: Tensor, **kwargs) -> tuple[Instances, list[int]]:
    arguments = {"score_thresh": 0.05, "nms_thresh": 0.5, "topk_per_image": 100}
    instances, index = fast_rcnn_inference([boxes], [scores], [SIZE], **(arguments | kwargs))
    return instances[0], index[0].tolist()


def apart(count: int, classes: int = 1) -> Tensor:
    """(count, classes * 4) boxes that do not meet."""
    x = torch.arange(count) * 5.0
    boxes = torch.stack((x, torch.zeros(count), x + 4, torch.full((count,), 4.0)), dim=1)
    return boxes.repeat(1, classes)


def random_predictions(seed: int, regions: int = 40, classes: int = 3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    centers = torch.rand(regions, classes, 2, generator=generator) * 60 - 5
    sides = torch.rand(regions, classes, 2, generator=generator) * 25 + 1
    boxes = torch.cat((centers - sides / 2, centers + sides / 2), dim=2)
    scores = torch.randn(regions, classes + 1, generator=generator).softmax(dim=1)
    return boxes.flatten(1), scores


def slow_inference(boxes: Tensor, scores: Tensor, thresh: float, nms: float, topk: int):
    """Class by class: above the threshold, best first, greedy NMS; then the best of all classes."""
    chosen = []
    for k in range(scores.shape[1] - 1):
        class_boxes = Boxes(boxes[:, 4 * k : 4 * k + 4])
        class_boxes.clip(SIZE)
        kept: list[int] = []
        for i in scores[:, k].argsort(descending=True).tolist():
            if float(scores[i, k]) > thresh and all(
                float(pairwise_iou(class_boxes[i], class_boxes[j])) <= nms for j in kept
            ):
                kept.append(i)
        chosen += [(float(scores[i, k]), k, i, class_boxes.tensor[i]) for i in kept]
    chosen.sort(key=lambda row: -row[0])
    return chosen[:topk]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    ("thresh", "nms", "topk"), [(0.05, 0.5, 100), (0.3, 0.5, 100), (0.05, 0.1, 100), (0.05, 0.5, 9)]
)
def test_detections_equal_the_slow_reference(
    seed: int, thresh: float, nms: float, topk: int
) -> None:
    boxes, scores = random_predictions(seed)
    instances, index = infer(
        boxes, scores, score_thresh=thresh, nms_thresh=nms, topk_per_image=topk
    )
    expected = slow_inference(boxes, scores, thresh, nms, topk)
    assert instances.image_size == SIZE
    assert instances.pred_classes.tolist() == [k for _, k, _, _ in expected]
    assert index == [i for _, _, i, _ in expected]
    assert instances.scores.tolist() == [score for score, _, _, _ in expected]
    torch.testing.assert_close(
        instances.pred_boxes.tensor, torch.stack([box for _, _, _, box in expected])
    )


def test_a_detection_scores_strictly_more_than_the_threshold() -> None:
    scores = torch.tensor([[0.5, 0.5], [0.5001, 0.4999], [0.4999, 0.5001]])
    _, index = infer(apart(3), scores, score_thresh=0.5)
    assert index == [1]


def test_the_last_column_is_the_background() -> None:
    instances, index = infer(apart(2, classes=2), torch.tensor([[0.1, 0.2, 0.7], [0, 0, 1.0]]))
    assert instances.pred_classes.tolist() == [1, 0]
    assert index == [0, 0]


def test_boxes_of_different_classes_do_not_suppress_each_other() -> None:
    boxes = apart(1, classes=2).repeat(2, 1)
    instances, _ = infer(boxes, torch.tensor([[0.9, 0.1, 0.0], [0.2, 0.8, 0.0]]))
    assert instances.pred_classes.tolist() == [0, 1]


def test_suppression_comes_before_the_best_are_counted() -> None:
    boxes = apart(2)[[0, 0, 1]]
    _, index = infer(boxes, torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3]]), topk_per_image=2)
    assert index == [0, 2]


def test_boxes_are_clipped_before_suppression() -> None:
    # Their visible parts are equal; unclipped they hardly overlap.
    boxes = torch.tensor([[50.0, 0.0, 60.0, 10.0], [50.0, 0.0, 160.0, 10.0]])
    instances, index = infer(boxes, torch.tensor([[0.9, 0.1], [0.8, 0.2]]))
    assert index == [0]
    assert instances.pred_boxes.tensor.tolist() == [[50, 0, 60, 10]]


def test_class_agnostic_boxes_serve_every_class() -> None:
    instances, index = infer(apart(2), torch.tensor([[0.6, 0.3, 0.1], [0.1, 0.8, 0.1]]))
    assert instances.pred_classes.tolist() == [1, 0, 1, 0]
    assert index == [1, 0, 0, 1]
    assert torch.equal(instances.pred_boxes.tensor, apart(2)[index])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_regions_that_are_not_finite_are_dropped_and_indices_count_them(value: float) -> None:
    boxes = apart(5)
    scores = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.6, 0.4], [0.5, 0.5]])
    boxes[1, 2] = value
    scores[3, 1] = value  # the background counts too
    _, index = infer(boxes, scores)
    assert index == [0, 2, 4]


@pytest.mark.parametrize(("topk", "expected"), [(-1, 5), (0, 0), (3, 3), (100, 5)])
def test_a_negative_top_k_keeps_all(topk: int, expected: int) -> None:
    scores = torch.linspace(0.9, 0.5, 5)[:, None].repeat(1, 2)
    instances, _ = infer(apart(5), scores, topk_per_image=topk)
    assert len(instances) == expected


@pytest.mark.parametrize("box_columns", [4, 12])
def test_no_regions_give_no_detections(box_columns: int) -> None:
    instances, index = infer(torch.zeros(0, box_columns), torch.zeros(0, 4))
    assert instances.pred_boxes.tensor.shape == (0, 4)
    assert instances.pred_classes.dtype == torch.int64
    assert index == []


def test_only_broken_regions_give_no_detections() -> None:
    instances, _ = infer(torch.full((2, 8), float("nan")), torch.zeros(2, 3))
    assert len(instances) == 0


def test_no_scores_above_the_threshold_give_no_detections() -> None:
    instances, _ = infer(apart(3, classes=3), torch.zeros(3, 4))
    assert instances.scores.shape == (0,)


def test_no_images_give_no_results() -> None:
    assert fast_rcnn_inference([], [], [], 0.05, 0.5, 100) == ([], [])


def test_half_precision_scores_are_accepted() -> None:
    instances, _ = infer(apart(2), torch.tensor([[0.75, 0.25], [0.5, 0.5]]).half())
    assert instances.scores.tolist() == [0.75, 0.5]

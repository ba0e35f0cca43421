"""find_top_rpn_proposals against a slow reference, and what it drops."""

import pytest
import torch
from torch import Tensor

from models.box_regression import Box2BoxTransform
from models.proposals import find_top_rpn_proposals, selection
from models.structures import Boxes, Instances, pairwise_iou

TRANSFORM = Box2BoxTransform(weights=(1.0, 1.0, 1.0, 1.0))
SIZES = [(40, 60), (60, 50)]


@pytest.fixture(autouse=True, params=[False, True], ids=["one by one", "together"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every rule holds on a CPU, image by image, and as a GPU does it, all at once."""
    monkeypatch.setattr(selection, "pays_together", lambda device: request.param)


def predictions(seed: int, counts: tuple[int, ...] = (60, 25), images: int = 2):
    """Anchors, logits and deltas of two levels; the logits are all different."""
    generator = torch.Generator().manual_seed(seed)
    anchors, logits, deltas = [], [], []
    for level, count in enumerate(counts):
        centers = torch.rand(count, 2, generator=generator) * 70 - 5
        sides = torch.rand(count, 2, generator=generator) * 25 + 1
        anchors.append(Boxes(torch.cat((centers - sides / 2, centers + sides / 2), dim=1)))
        order = torch.rand(images, count, generator=generator).argsort(dim=1)
        logits.append(order / count * 8 - 4 + 0.001 * level)
        deltas.append(torch.randn(images, count, 4, generator=generator) * 0.3)
    return anchors, logits, deltas


def select(anchors, logits, deltas, sizes=SIZES, **kwargs) -> list[Instances]:
    arguments = {"nms_thresh": 0.7, "pre_nms_topk": 40, "post_nms_topk": 30, "min_box_size": 0.0}
    return find_top_rpn_proposals(
        anchors, logits, deltas, sizes, box2box_transform=TRANSFORM, **(arguments | kwargs)
    )


def slow_select(
    anchors, logits, deltas, image: int, nms_thresh: float, pre: int, post: int, min_size: float
) -> tuple[Tensor, Tensor]:
    """Decode all, then level by level: the best, clipped, not empty, greedy NMS; best of all."""
    chosen = []
    for anchor, level_logits, level_deltas in zip(anchors, logits, deltas, strict=True):
        boxes = Boxes(TRANSFORM.apply_deltas(level_deltas[image], anchor.tensor))
        boxes.clip(SIZES[image])
        best = level_logits[image].argsort(descending=True)[:pre]
        kept: list[int] = []
        for i in best.tolist():
            if not bool(boxes[i].nonempty(min_size)):
                continue
            if all(float(pairwise_iou(boxes[i], boxes[j])) <= nms_thresh for j in kept):
                kept.append(i)
        chosen += [(float(level_logits[image, i]), boxes.tensor[i]) for i in kept]
    chosen.sort(key=lambda pair: -pair[0])
    scores = torch.tensor([score for score, _ in chosen[:post]])
    return torch.stack([box for _, box in chosen[:post]]), scores


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    ("nms_thresh", "pre", "post", "min_size"),
    [(0.7, 40, 1000, 0.0), (0.3, 1000, 1000, 0.0), (0.7, 20, 12, 0.0), (0.7, 40, 30, 8.0)],
)
def test_proposals_equal_the_slow_reference(
    seed: int, nms_thresh: float, pre: int, post: int, min_size: float
) -> None:
    inputs = predictions(seed)
    results = select(
        *inputs,
        nms_thresh=nms_thresh,
        pre_nms_topk=pre,
        post_nms_topk=post,
        min_box_size=min_size,
    )
    for image, result in enumerate(results):
        boxes, scores = slow_select(*inputs, image, nms_thresh, pre, post, min_size)
        assert result.image_size == SIZES[image]
        torch.testing.assert_close(result.objectness_logits, scores)
        torch.testing.assert_close(result.proposal_boxes.tensor, boxes)


def test_the_best_of_each_level_enter_suppression_not_of_all() -> None:
    anchors = [Boxes(torch.tensor([[0.0, 0.0, 9.0, 9.0]]).repeat(count, 1)) for count in (60, 25)]
    _, logits, deltas = predictions(0)
    logits[0] += 100  # every box of the first level beats every one of the second
    none = [torch.zeros_like(level) for level in deltas]
    (proposals, _) = select(anchors, logits, none, nms_thresh=1.0, pre_nms_topk=5)
    assert len(proposals) == 10
    assert int((proposals.objectness_logits > 50).sum()) == 5


def test_the_best_come_first() -> None:
    for result in select(*predictions(seed=0)):
        logits = result.objectness_logits
        assert torch.equal(logits, logits.sort(descending=True).values)


def test_boxes_of_different_levels_do_not_suppress_each_other() -> None:
    box = Boxes(torch.tensor([[5.0, 5.0, 20.0, 20.0]]))
    zeros = torch.zeros(1, 1, 4)
    (result,) = select(
        [box, box], [torch.ones(1, 1), torch.zeros(1, 1)], [zeros, zeros], [(40, 60)]
    )
    assert result.objectness_logits.tolist() == [1, 0]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_is_dropped_and_the_rest_stays(value: float) -> None:
    corners = torch.tensor([[0.0, 0.0], [20.0, 0.0], [0.0, 20.0], [20.0, 20.0], [40.0, 0.0]])
    anchors = [Boxes(torch.cat((corners, corners + 10), dim=1))]
    logits = [torch.tensor([[5.0, 4.0, 3.0, 2.0, 1.0]] * 2)]
    deltas = [torch.zeros(2, 5, 4)]
    logits[0][0, 1] = value
    deltas[0][0, 3, 0] = value
    broken, whole = select(anchors, logits, deltas)
    assert broken.objectness_logits.tolist() == [5, 3, 1]
    assert torch.equal(broken.proposal_boxes.tensor, anchors[0].tensor[[0, 2, 4]])
    assert whole.objectness_logits.tolist() == [5, 4, 3, 2, 1]


def test_deltas_that_overflow_are_dropped() -> None:
    anchors, logits, deltas = predictions(seed=1)
    for level in deltas:
        level.fill_(3e38)
    assert [len(result) for result in select(anchors, logits, deltas)] == [0, 0]


def test_boxes_outside_of_the_image_are_dropped() -> None:
    anchors = [Boxes(torch.tensor([[100.0, 100.0, 120.0, 120.0], [-9.0, -9.0, -2.0, -2.0]]))]
    (result,) = select(anchors, [torch.ones(1, 2)], [torch.zeros(1, 2, 4)], [(40, 60)])
    assert result.proposal_boxes.tensor.shape == (0, 4)
    assert result.objectness_logits.shape == (0,)


def test_a_level_without_cells_is_no_error() -> None:
    anchors, logits, deltas = predictions(seed=2, counts=(60, 0))
    assert all(len(result) > 0 for result in select(anchors, logits, deltas))


def test_an_image_is_independent_of_the_others_in_its_batch() -> None:
    anchors, logits, deltas = predictions(seed=3)
    together = select(anchors, logits, deltas)
    for image in range(2):
        (alone,) = select(
            anchors,
            [level[image : image + 1] for level in logits],
            [level[image : image + 1] for level in deltas],
            [SIZES[image]],
        )
        assert torch.equal(alone.proposal_boxes.tensor, together[image].proposal_boxes.tensor)
        assert torch.equal(alone.objectness_logits, together[image].objectness_logits)

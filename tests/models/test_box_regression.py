"""Box2BoxTransform and the linear one of FCOS: what get_deltas says, apply_deltas does."""

import math

import pytest
import torch

from models import Box2BoxTransform, Box2BoxTransformLinear

SOURCES = torch.tensor([[0.0, 0.0, 10.0, 20.0], [5.5, 3.25, 9.0, 30.0], [-4.0, -4.0, 1.0, 200.0]])
TARGETS = torch.tensor([[1.0, 2.0, 30.0, 25.0], [5.0, 5.0, 6.0, 6.0], [10.0, -9.0, 25.0, 90.0]])


@pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0, 1.0), (10.0, 10.0, 5.0, 5.0)])
def test_deltas_lead_from_the_source_to_the_target(weights: tuple) -> None:
    transform = Box2BoxTransform(weights)
    deltas = transform.get_deltas(SOURCES, TARGETS)
    torch.testing.assert_close(transform.apply_deltas(deltas, SOURCES), TARGETS)


def test_deltas_are_moves_in_sides_and_logarithms_of_growth() -> None:
    deltas = Box2BoxTransform((10.0, 10.0, 5.0, 5.0)).get_deltas(
        torch.tensor([[0.0, 0.0, 10.0, 20.0]]), torch.tensor([[5.0, 10.0, 25.0, 20.0]])
    )
    expected = [10 * 1.0, 10 * 0.25, 5 * math.log(2), 5 * math.log(0.5)]
    torch.testing.assert_close(deltas, torch.tensor([expected]))


def test_no_deltas_keep_the_box() -> None:
    boxes = Box2BoxTransform((1.0, 1.0, 1.0, 1.0)).apply_deltas(torch.zeros(3, 4), SOURCES)
    torch.testing.assert_close(boxes, SOURCES)


def test_growth_is_clamped_above_at_1000_sixteenths() -> None:
    transform = Box2BoxTransform((1.0, 1.0, 1.0, 1.0))
    boxes = transform.apply_deltas(
        torch.tensor([[0.0, 0.0, 50.0, -50.0]]), torch.tensor([[0.0, 0.0, 16.0, 16.0]])
    )
    torch.testing.assert_close(boxes, torch.tensor([[-492.0, 8.0, 508.0, 8.0]]))


def test_the_clamp_acts_after_the_division_by_the_weights() -> None:
    transform = Box2BoxTransform((1.0, 1.0, 10.0, 10.0), scale_clamp=1.0)
    boxes = transform.apply_deltas(
        torch.tensor([[0.0, 0.0, 9.0, 11.0]]), torch.tensor([[-1.0, -1.0, 1.0, 1.0]])
    )
    grown = [-math.exp(0.9), -math.e, math.exp(0.9), math.e]
    torch.testing.assert_close(boxes, torch.tensor([grown]))


def test_each_class_has_its_own_four_deltas() -> None:
    transform = Box2BoxTransform((1.0, 1.0, 1.0, 1.0))
    deltas = torch.randn(3, 5 * 4, generator=torch.Generator().manual_seed(0))
    boxes = transform.apply_deltas(deltas, SOURCES)
    assert boxes.shape == (3, 20)
    for k in range(5):
        columns = slice(4 * k, 4 * k + 4)
        alone = transform.apply_deltas(deltas[:, columns], SOURCES)
        torch.testing.assert_close(boxes[:, columns], alone)


def test_half_precision_deltas_give_float32_boxes() -> None:
    boxes = Box2BoxTransform((1.0, 1.0, 1.0, 1.0)).apply_deltas(
        torch.zeros(1, 4, dtype=torch.float16), torch.tensor([[4000.25, 1.0, 5000.75, 9.0]])
    )
    assert boxes.dtype == torch.float32
    assert boxes.tolist() == [[4000.25, 1.0, 5000.75, 9.0]]


def test_no_boxes_give_no_boxes() -> None:
    boxes = Box2BoxTransform((1.0, 1.0, 1.0, 1.0)).apply_deltas(
        torch.zeros(0, 8), torch.zeros(0, 4)
    )
    assert boxes.shape == (0, 8)


@pytest.mark.parametrize("source", [[1.0, 1.0, 1.0, 5.0], [1.0, 5.0, 5.0, 1.0]])
def test_an_empty_source_has_no_deltas(source: list[float]) -> None:
    with pytest.raises(ValueError, match="positive width and height"):
        Box2BoxTransform((1.0, 1.0, 1.0, 1.0)).get_deltas(torch.tensor([source]), TARGETS[:1])


def test_linear_deltas_are_distances_to_the_sides_in_units_of_the_anchor() -> None:
    anchor, box = torch.tensor([[8.0, 8.0, 16.0, 16.0]]), torch.tensor([[4.0, 8.0, 20.0, 36.0]])
    deltas = Box2BoxTransformLinear(normalize_by_size=True).get_deltas(anchor, box)
    assert deltas.tolist() == [[1.0, 0.5, 1.0, 3.0]]
    in_pixels = Box2BoxTransformLinear(normalize_by_size=False).get_deltas(anchor, box)
    assert in_pixels.tolist() == [[8.0, 4.0, 8.0, 24.0]]


@pytest.mark.parametrize("normalize", [True, False])
def test_linear_deltas_lead_from_the_anchor_to_the_box(normalize: bool) -> None:
    transform = Box2BoxTransformLinear(normalize)
    anchors = torch.tensor([[8.0, 8.0, 16.0, 16.0], [0.0, 0.0, 64.0, 64.0]])
    boxes = torch.tensor([[4.0, 8.0, 20.0, 36.0], [-10.5, 3.25, 40.0, 90.0]])
    deltas = transform.get_deltas(anchors, boxes)
    torch.testing.assert_close(transform.apply_deltas(deltas, anchors), boxes)


def test_no_anchors_give_no_boxes() -> None:
    assert Box2BoxTransformLinear().apply_deltas(torch.zeros(0, 8), torch.zeros(0, 4)).shape == (
        0,
        8,
    )


def test_negative_distances_count_as_0() -> None:
    boxes = Box2BoxTransformLinear().apply_deltas(
        torch.tensor([[-3.0, 1.0, 0.5, -0.1]]), torch.tensor([[0.0, 0.0, 8.0, 8.0]])
    )
    assert boxes.tolist() == [[4.0, -4.0, 8.0, 4.0]]


def test_each_class_has_its_own_four_distances() -> None:
    boxes = Box2BoxTransformLinear().apply_deltas(
        torch.tensor([[1.0, 1.0, 1.0, 1.0, 2.0, 0.0, 0.0, 0.0]]),
        torch.tensor([[0.0, 0.0, 8.0, 8.0]]),
    )
    assert boxes.tolist() == [[-4.0, -4.0, 12.0, 12.0, -12.0, 4.0, 4.0, 4.0]]

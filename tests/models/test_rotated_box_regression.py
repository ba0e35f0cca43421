"""Box2BoxTransformRotated: what get_deltas says, apply_deltas does."""

import math

import pytest
import torch
from torch import Tensor

from models import Box2BoxTransformRotated

UNIT = (1.0, 1.0, 1.0, 1.0, 1.0)


def random_boxes(number: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    low = torch.tensor([0.0, 0.0, 5.0, 5.0, -180.0])
    span = torch.tensor([60.0, 60.0, 40.0, 40.0, 360.0])
    return low + span * torch.rand(number, 5, generator=generator)


@pytest.mark.parametrize("weights", [UNIT, (10.0, 10.0, 5.0, 5.0, 1.0), (1.0, 2.0, 3.0, 4.0, 5.0)])
def test_a_round_trip_gives_the_target(weights: tuple[float, float, float, float, float]) -> None:
    transform = Box2BoxTransformRotated(weights)
    sources, targets = random_boxes(50, 0), random_boxes(50, 1)
    ours = transform.apply_deltas(transform.get_deltas(sources, targets), sources)
    torch.testing.assert_close(ours, targets, atol=1e-3, rtol=0)


def test_deltas_are_in_radians_and_boxes_in_degrees() -> None:
    transform = Box2BoxTransformRotated((1.0, 1.0, 1.0, 1.0, 2.0))
    source = torch.tensor([[10.0, 10.0, 4.0, 2.0, 30.0]])
    moved = transform.apply_deltas(torch.tensor([[0.5, 0.5, 0.0, math.log(3), math.pi]]), source)
    expected = torch.tensor([[12.0, 11.0, 4.0, 6.0, 120.0]])
    torch.testing.assert_close(moved, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("source", "target", "turn"),
    [(170.0, -170.0, 20.0), (-170.0, 170.0, -20.0), (0.0, 400.0, 40.0)],
)
def test_a_turn_goes_the_shorter_way(source: float, target: float, turn: float) -> None:
    boxes = torch.tensor([[0.0, 0.0, 1.0, 1.0, source], [0.0, 0.0, 1.0, 1.0, target]])
    deltas = Box2BoxTransformRotated(UNIT).get_deltas(boxes[:1], boxes[1:])
    assert float(deltas[0, 4]) == pytest.approx(math.radians(turn), abs=1e-5)


def test_angles_wrap() -> None:
    source = torch.tensor([[0.0, 0.0, 1.0, 1.0, 170.0]])
    deltas = torch.tensor([[0.0, 0.0, 0.0, 0.0, math.radians(20)]])
    moved = Box2BoxTransformRotated(UNIT).apply_deltas(deltas, source)
    assert float(moved[0, 4]) == pytest.approx(-170, abs=1e-4)


def test_growth_is_bounded() -> None:
    source = torch.tensor([[0.0, 0.0, 2.0, 3.0, 0.0]])
    moved = Box2BoxTransformRotated(UNIT).apply_deltas(torch.full((1, 5), 100.0), source)
    torch.testing.assert_close(moved[0, 2:4], torch.tensor([2.0, 3.0]) * 1000 / 16)


def test_several_boxes_per_source() -> None:
    sources, transform = random_boxes(4, 2), Box2BoxTransformRotated(UNIT)
    deltas = torch.randn(4, 15, generator=torch.Generator().manual_seed(0))
    moved = transform.apply_deltas(deltas, sources)
    parts = [transform.apply_deltas(deltas[:, i : i + 5], sources) for i in (0, 5, 10)]
    assert torch.equal(moved, torch.cat(parts, dim=1))


def test_half_precision_is_computed_in_float32() -> None:
    deltas = torch.zeros(1, 5, dtype=torch.float16)
    source = torch.tensor([[4001.3, 10.0, 4.0, 2.0, 30.0]])
    assert Box2BoxTransformRotated(UNIT).apply_deltas(deltas, source).dtype == torch.float32


def test_no_boxes() -> None:
    transform, empty = Box2BoxTransformRotated(UNIT), torch.zeros(0, 5)
    assert transform.get_deltas(empty, empty).shape == (0, 5)
    assert transform.apply_deltas(torch.zeros(0, 15), empty).shape == (0, 15)


def test_a_source_without_sides_is_refused() -> None:
    with pytest.raises(ValueError, match="positive width and height"):
        Box2BoxTransformRotated(UNIT).get_deltas(torch.zeros(1, 5), torch.ones(1, 5))

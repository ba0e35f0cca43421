"""Before traffic: which shapes a version runs, in calls of their own, and what stops it."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytest
import torch
from fake_detector import FakeDetector
from small_models import write_small_model

from models.errors import ModelError
from service.errors import Unavailable
from service.inference.detector import ModelCall, PreparedImage, at_once
from service.inference.loading import load_torch_detector
from service.inference.torch_detector import TorchDetector
from service.inference.traffic import TrafficShape, TrafficShapes
from service.inference.warm_up import MOST_SHAPES, warm_up
from service.settings import PRETRAINED

T = TypeVar("T")


def shape(height: int, width: int, batch: int = 1, count: int = 1) -> TrafficShape:
    return TrafficShape(height, width, (height, width), batch, count)


class Watched(FakeDetector):
    """Tells the sizes of the batches that it ran, as (height, width, batch)."""

    def __init__(self, **described: Any) -> None:
        super().__init__(**described)
        self.ran: list[tuple[int, int, int]] = []

    def infer(self, batch: Sequence[PreparedImage], pause: Callable[[], None] | None = None) -> Any:
        self.ran.append((batch[0].height, batch[0].width, len(batch)))
        return super().infer(batch, pause)


class Calls:
    """Runs calls at once and counts them."""

    def __init__(self) -> None:
        self.number = 0

    def __call__(self, function: Callable[[], T], /) -> T:
        self.number += 1
        return function()


def test_each_shape_runs_alone_twice_and_then_as_its_largest_batch_in_calls_of_their_own() -> None:
    detector, calls = Watched(), Calls()
    report = warm_up(detector, [shape(64, 96, batch=4), shape(32, 32)], call=calls)
    assert detector.ran == [(64, 96, 1)] * 2 + [(32, 32, 1)] * 2 + [(64, 96, 4)]
    assert calls.number == 5
    assert report.from_traffic
    assert [(s.height, s.width, s.padded_size, s.batch) for s in report.shapes] == [
        (64, 96, (64, 96), 1),
        (32, 32, (32, 32), 1),
        (64, 96, (64, 96), 4),
    ]


def test_the_report_is_json_with_the_seconds_of_both_runs() -> None:
    told = warm_up(Watched(), [shape(64, 96)], call=at_once).to_dict()
    [one] = told["shapes"]
    assert one["first_s"] >= 0
    assert one["second_s"] >= 0
    assert (told["from_traffic"], told["too_large"], told["recording_s"]) == (True, (), 0.0)


def test_only_the_first_shapes_run() -> None:
    detector = Watched()
    warm_up(detector, [shape(32 * n, 32) for n in range(1, 20)], call=at_once)
    assert {ran[0] for ran in detector.ran} == {32 * n for n in range(1, MOST_SHAPES + 1)}


def test_shapes_that_the_version_prepares_to_one_size_run_once() -> None:
    detector = Watched()
    warm_up(detector, [shape(63, 96), shape(64, 95)], call=at_once)
    assert detector.ran == [(63, 96, 1)] * 2


@pytest.mark.parametrize(("min_size", "side"), [(64, 64), (0, 256)])
def test_without_traffic_the_models_own_size_runs(min_size: int, side: int) -> None:
    detector = Watched(min_size=min_size)
    report = warm_up(detector, [], call=at_once)
    assert detector.ran == [(side, side, 1)] * 2
    assert not report.from_traffic


def test_a_model_that_takes_proposals_gets_the_whole_picture_as_one() -> None:
    detector = Watched(takes_proposals=True)
    warm_up(detector, [shape(32, 64)], call=at_once)
    given = [proposals for _, proposals in detector.given if proposals is not None]
    assert len(given) == len(detector.given) > 0
    assert all(proposals.tolist() == [[0, 0, 64, 32]] for proposals in given)


def test_a_batch_without_memory_is_halved() -> None:
    detector = Watched()
    detector.fits = 3
    report = warm_up(detector, [shape(32, 32, batch=12), shape(64, 64, batch=2)], call=at_once)
    assert [ran[2] for ran in detector.ran] == [1, 1, 1, 1, 12, 6, 3, 2]
    assert report.too_large == ((32, 32, 12), (32, 32, 6))
    assert [(s.height, s.batch) for s in report.shapes] == [(32, 1), (64, 1), (32, 3), (64, 2)]


def test_a_single_picture_without_memory_is_refused_with_what_to_do() -> None:
    detector = Watched()
    detector.fits = 0
    with pytest.raises(ModelError, match="single picture") as caught:
        warm_up(detector, [shape(32, 32)], call=at_once)
    assert "in_place" in caught.value.message


def test_a_batch_is_not_larger_than_pixels_allow() -> None:
    detector = Watched()
    warm_up(detector, [shape(32, 32, batch=12)], call=at_once, max_batch_pixels=32 * 32 * 5)
    assert [ran[2] for ran in detector.ran] == [1, 1, 5]


def test_once_the_budget_is_spent_no_further_batch_is_begun() -> None:
    detector = Watched()
    shapes = [shape(32, 32, batch=3), shape(64, 64, batch=2), shape(96, 96)]
    report = warm_up(detector, shapes, call=at_once, budget_s=0.0)
    assert [ran[2] for ran in detector.ran] == [1] * 6
    assert report.left_out == 2
    assert [s.second_s is not None for s in report.shapes] == [True] * 3


def test_a_model_that_fails_is_refused() -> None:
    detector = Watched()
    detector.fail_on = set(range(256))
    with pytest.raises(ModelError, match="warm-up: RuntimeError"):
        warm_up(detector, [shape(32, 32)], call=at_once)


def test_a_server_that_stops_says_so_itself() -> None:
    def closed(_: Callable[[], T], /) -> T:
        raise Unavailable("draining", "The server is shutting down.")

    with pytest.raises(Unavailable):
        warm_up(Watched(), [shape(32, 32)], call=closed)


class Recording(Watched):
    """Has a warm-up of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[Sequence[tuple[int, int]] | None] = []

    def warm_up(
        self, sizes: Sequence[tuple[int, int]] | None = None, *, call: ModelCall = at_once
    ) -> None:
        assert self.ran == []
        call(lambda: self.sizes.append(sizes))


def test_a_detector_with_a_warm_up_of_its_own_is_told_the_sizes_first_the_largest_first() -> None:
    detector, calls = Recording(), Calls()
    warm_up(detector, [shape(30, 30), shape(64, 100), shape(31, 31)], call=calls)
    assert detector.sizes == [[(64, 128), (32, 32)]]
    assert calls.number == 1 + 4


def test_without_traffic_such_a_detector_guesses() -> None:
    detector = Recording()
    warm_up(detector, [], call=at_once)
    assert detector.sizes == [None]


def test_what_fails_in_a_warm_up_of_its_own_is_refused() -> None:
    detector = Recording()
    detector.warm_up = lambda *_, **__: 1 / 0  # type: ignore[method-assign, assignment]  # a model that fails
    with pytest.raises(ModelError, match="warm-up: ZeroDivisionError"):
        warm_up(detector, [shape(32, 32)], call=at_once)


# --- the real detector ----------------------------------------------------------------------------


class Backbone:
    """The shapes that reach a model's backbone, as (N, C, H, W)."""

    def __init__(self, detector: TorchDetector) -> None:
        self.shapes: list[tuple[int, ...]] = []
        detector.predictor.model.backbone.register_forward_pre_hook(
            lambda _, inputs: self.shapes.append(tuple(inputs[0].shape))
        )


def test_the_shapes_of_traffic_reach_the_embedded_model() -> None:
    detector = load_torch_detector(
        config=PRETRAINED / "config.yaml",
        weights=PRETRAINED / "model_final.pth",
        labels=None,
        device="cpu",
    )
    traffic = TrafficShapes()
    picture = torch.zeros(120, 200, 3, dtype=torch.uint8).numpy()
    prepared = detector.prepare(picture)
    traffic.add([prepared] * 2)
    seen = Backbone(detector)
    report = warm_up(detector, traffic.most_common(8), call=at_once)
    assert seen.shapes == [(n, 3, *prepared.padded_size) for n in (1, 1, 2)]
    assert [s.padded_size for s in report.shapes] == [prepared.padded_size] * 2


@pytest.mark.parametrize("name", ["fast_rcnn", "semantic", "keypoints"])
def test_models_of_other_kinds_warm_up(name: str, tmp_path: Path) -> None:
    config, weights = write_small_model(name, tmp_path)
    detector = load_torch_detector(
        config=config, weights=weights, labels=None, device="cpu", mode="reference"
    )
    report = warm_up(detector, [shape(60, 90, batch=2)], call=at_once)
    assert [s.batch for s in report.shapes] == [1, 2]

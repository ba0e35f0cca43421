"""Which shapes are recorded before traffic comes. The recording is a fake that runs on a CPU."""

import logging

import pytest
import torch
from fake_capture import FakeCapture
from tiny_models import tiny_image, tiny_model

from models.execution.cuda_warm_up import common_sizes, record_shapes


def test_the_common_sizes_are_those_of_cameras_in_both_orientations() -> None:
    sizes = common_sizes(800, 1333, 32)
    assert {(800, 800), (800, 1088), (1088, 800), (800, 1216), (768, 1344)} <= set(sizes)
    assert len(sizes) == len(set(sizes)) == 7
    areas = [height * width for height, width in sizes]
    assert areas == sorted(areas, reverse=True)


def test_without_a_resize_no_size_is_common() -> None:
    assert common_sizes(0, 1333, 32) == []


def test_every_size_is_recorded_with_every_batch_size() -> None:
    model, capture = tiny_model(MASK_ON=True), FakeCapture()
    graphs = record_shapes(
        model,
        [(128, 128), (64, 128)],
        max_detections=20,
        batch_sizes=(1, 2),
        capture=capture,
        has_memory=lambda: True,
    )
    # Backbone and RPN head for 2 x 2 shapes; 50 and 100 proposals; 8, 16, 20 and 40 masks.
    assert len(graphs) == capture.recorded == 8 + 2 + 4
    replayed = capture.replayed
    with torch.inference_mode():
        model.predict([{"image": tiny_image(64, 128)}] * 2)
    assert capture.replayed == replayed + 4
    assert capture.recorded == len(graphs)


def test_recording_ends_when_memory_is_short(caplog: pytest.LogCaptureFixture) -> None:
    left = iter([True, True])
    with caplog.at_level(logging.WARNING):
        graphs = record_shapes(
            tiny_model(),
            [(128, 128), (64, 128), (64, 64)],
            max_detections=20,
            batch_sizes=(1,),
            capture=FakeCapture(),
            has_memory=lambda: next(left, False),
        )
    assert len(graphs) == 4 + 1
    assert "memory is short" in caplog.text


def test_a_batch_without_room_is_left_out() -> None:
    model = tiny_model()

    class Small(FakeCapture):
        def __call__(self, function):
            replay, output = super().__call__(function)
            if isinstance(output, dict) and len(output["p2"]) == 2:
                raise torch.OutOfMemoryError("full")
            return replay, output

    graphs = record_shapes(
        model,
        [(64, 64)],
        max_detections=20,
        batch_sizes=(1, 2),
        capture=Small(),
        has_memory=lambda: True,
    )
    assert len(graphs) == 2 + 2


def test_each_batch_is_recorded_in_a_call_of_its_own_and_leaves_nothing_switched_on() -> None:
    between: list[tuple[bool, bool]] = []

    def call(step):
        result = step()
        between.append((torch.is_inference_mode_enabled(), torch.backends.cudnn.benchmark))
        return result

    capture = FakeCapture()
    model = tiny_model()
    graphs = record_shapes(
        model,
        [(128, 128), (64, 128)],
        max_detections=20,
        batch_sizes=(1, 2),
        capture=capture,
        has_memory=lambda: True,
        call=call,
    )
    assert between == [(False, torch.backends.cudnn.benchmark)] * 4
    assert capture.recorded == len(graphs) > 8
    with torch.inference_mode():
        model.predict([{"image": tiny_image(64, 64)}])
    assert capture.recorded == len(graphs)

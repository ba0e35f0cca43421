"""What is kept of the shapes of traffic, and what outlives a restart."""

import json
import logging
import threading

import pytest
import torch
from fake_detector import FakeDetector, pixels
from scheduler_bench import Benches, answers, outcomes

from service.inference import traffic as traffic_module
from service.inference.detector import PreparedImage, Views
from service.inference.traffic import TrafficShape, TrafficShapes


def image(height: int, width: int, padded: tuple[int, int] | None = None) -> PreparedImage:
    size = padded or (height, width)
    return PreparedImage(torch.zeros(3, 1, 1, dtype=torch.uint8), height, width, size, recipe="rgb")


def test_a_shape_tells_its_latest_picture_its_largest_batch_and_how_many_there_were() -> None:
    traffic = TrafficShapes()
    traffic.add([image(480, 640, (800, 1088))] * 3)
    traffic.add([image(479, 640, (800, 1088))])
    assert traffic.most_common(8) == [TrafficShape(479, 640, (800, 1088), batch=3, count=4)]


def test_the_most_used_come_first_and_of_equals_the_latest() -> None:
    traffic = TrafficShapes()
    for height, number in ((1, 2), (2, 1), (3, 5), (4, 2)):
        traffic.add([image(height, 9)] * number)
    assert [shape.height for shape in traffic.most_common(8)] == [3, 4, 1, 2]
    assert [shape.height for shape in traffic.most_common(2)] == [3, 4]


def test_without_traffic_there_are_no_shapes() -> None:
    traffic = TrafficShapes()
    traffic.add([])
    assert traffic.most_common(8) == []


def test_the_least_used_makes_room_and_of_equals_the_oldest() -> None:
    traffic = TrafficShapes(most_shapes=3)
    for height, number in ((1, 2), (2, 1), (3, 1), (2, 0), (4, 1)):
        traffic.add([image(height, 9)] * number)
    assert {shape.height for shape in traffic.most_common(8)} == {1, 3, 4}


def test_a_new_shape_is_not_the_one_that_makes_room() -> None:
    traffic = TrafficShapes(most_shapes=1)
    traffic.add([image(1, 9)] * 50)
    traffic.add([image(2, 9)])
    assert [shape.height for shape in traffic.most_common(8)] == [2]


def test_what_comes_now_outweighs_what_came_long_ago(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traffic_module, "HALVE_AFTER", 10)
    traffic = TrafficShapes()
    traffic.add([image(1, 9)] * 10)
    for _ in range(3):
        traffic.add([image(2, 9)] * 3)
    assert [(shape.height, shape.count) for shape in traffic.most_common(8)] == [(2, 9), (1, 5)]


def test_pictures_of_test_time_augmentation_are_left_out() -> None:
    detector = FakeDetector()
    views = detector.prepare(pixels(1, (48, 64)), tta=Views((64,), 128, flip=True))
    traffic = TrafficShapes()
    traffic.add([views])
    assert traffic.most_common(8) == []
    traffic.add([views, detector.prepare(pixels(1, (48, 64)))])
    assert [shape.batch for shape in traffic.most_common(8)] == [1]


def test_it_survives_a_restart() -> None:
    traffic = TrafficShapes()
    traffic.add([image(480, 640, (800, 1088))] * 3)
    traffic.add([image(64, 64)])
    again = TrafficShapes.from_json(traffic.to_json())
    assert again.most_common(8) == traffic.most_common(8)
    again.add([image(480, 640, (800, 1088))])
    assert again.most_common(1)[0].count == 4


GOOD = {"height": 4, "width": 4, "padded_size": [4, 4], "batch": 1, "count": 1}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "7",
        '{"shapes": 1}',
        '{"shapes": [1]}',
        '{"shapes": [{}]}',
        "[" * 100_000,
        b"\xff\xfe",
        *(
            json.dumps({"shapes": [GOOD | wrong]})
            for wrong in (
                {"height": 0},
                {"height": 1 << 40},
                {"width": 4.0},
                {"height": True},
                {"padded_size": [4]},
                {"padded_size": "44"},
                {"padded_size": [4, -4]},
                {"batch": 0},
                {"batch": 1 << 30},
                {"count": 0},
                {"count": None},
            )
        ),
    ],
)
def test_damaged_content_is_ignored_with_a_line_in_the_log(
    text: str | bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        traffic = TrafficShapes.from_json(text)
    assert traffic.most_common(8) == []
    assert "damaged" in caplog.text
    traffic.add([image(1, 1)])
    assert len(traffic.most_common(8)) == 1


def test_of_a_file_with_too_many_shapes_the_latest_are_kept() -> None:
    many = [GOOD | {"padded_size": [size, 4]} for size in range(1, 10)]
    traffic = TrafficShapes.from_json(json.dumps({"shapes": many}), most_shapes=2)
    assert {shape.padded_size for shape in traffic.most_common(8)} == {(8, 4), (9, 4)}


def test_threads_lose_no_count() -> None:
    traffic = TrafficShapes()

    def add() -> None:
        for number in range(200):
            traffic.add([image(number % 4 + 1, 9)])
            traffic.to_json()

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [shape.count for shape in traffic.most_common(8)] == [200] * 4


@pytest.mark.anyio
async def test_batches_that_ran_are_counted_for_their_model_and_their_version(
    bench: Benches,
) -> None:
    one = bench()
    with one.busy():
        tasks = await one.send(1, 2, 3)
    await answers(tasks)
    one.settle()
    shapes = {shape.padded_size: shape for shape in one.model.traffic.most_common(8)}
    assert shapes[32, 32].batch == 3
    batches = one.model.current.statistics.to_dict()["batches"]
    assert {batch["size"]: batch["count"] for batch in batches}[3] == 1


@pytest.mark.anyio
async def test_a_picture_that_failed_is_counted_as_such_and_is_no_traffic(bench: Benches) -> None:
    one = bench()
    one.detector.fail_on = {1}
    await outcomes(await one.send(1))
    one.settle()
    assert one.model.traffic.most_common(8) == []
    served = one.model.current.statistics.to_dict()
    assert (served["images"], served["failed_images"]) == (0, 1)

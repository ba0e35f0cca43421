"""Recorded parts: when they record, when they replay, and that answers stay the same.

The recording itself is a fake that runs on a CPU; ``benchmarks/gpu.py`` checks CUDA's.
"""

import collections
import logging
from typing import Any

import pytest
import torch
from fake_capture import FakeCapture
from tiny_models import tiny_image, tiny_model
from torch import Tensor, nn

from models.execution.cuda_graphs import CudaGraphs, GraphedFunction
from models.transfer import tensors_of


def recorded(function: GraphedFunction, *args: Any) -> Any:
    function.recording = True
    try:
        with torch.no_grad():
            return function(*args)
    finally:
        function.recording = False


def call(function: GraphedFunction, *args: Any) -> Any:
    with torch.inference_mode():
        return function(*args)


def pyramid(levels: list[Tensor], scale: dict[str, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
    return {f"p{i}": (x * scale["by"], x.sum(dim=0)) for i, x in enumerate(levels)}


def test_a_recorded_shape_is_replayed_with_new_numbers() -> None:
    capture = FakeCapture()
    function = GraphedFunction(pyramid, capture=capture)
    recorded(function, [torch.ones(2, 3), torch.ones(4)], {"by": torch.tensor(2.0)[None]})
    levels, scale = [torch.rand(2, 3), torch.rand(4)], {"by": torch.tensor([5.0])}
    found = call(function, levels, scale)
    assert capture.replayed == 2
    expected = pyramid(levels, scale)
    assert found.keys() == expected.keys()
    for ours, theirs in zip(tensors_of(found), tensors_of(expected), strict=True):
        assert torch.equal(ours, theirs)


def test_outside_of_warm_up_nothing_is_recorded() -> None:
    capture = FakeCapture()
    function = GraphedFunction(torch.neg, capture=capture)
    assert call(function, torch.ones(2)).tolist() == [-1, -1]
    recorded(function, torch.ones(3))
    assert call(function, torch.ones(2)).tolist() == [-1, -1]
    assert (capture.recorded, len(function)) == (1, 1)


@pytest.mark.parametrize(
    "other", [torch.ones(1, 3), torch.ones(3, 1), torch.ones(3, dtype=torch.float64)]
)
def test_another_shape_or_type_runs_as_written(other: Tensor) -> None:
    capture = FakeCapture()
    function = GraphedFunction(torch.neg, capture=capture)
    recorded(function, torch.ones(3))
    replayed = capture.replayed
    assert torch.equal(call(function, other), -other)
    assert capture.replayed == replayed


def test_a_result_stays_what_it_was_when_the_next_is_computed() -> None:
    function = GraphedFunction(torch.neg, capture=FakeCapture())
    recorded(function, torch.ones(3))
    first = call(function, torch.ones(3))
    call(function, torch.zeros(3))
    assert first.tolist() == [-1, -1, -1]


def test_the_shape_that_was_not_used_for_longest_is_forgotten() -> None:
    function = GraphedFunction(torch.neg, capture=(capture := FakeCapture()), limit=2)
    for size in (1, 2):
        recorded(function, torch.ones(size))
    call(function, torch.ones(1))
    recorded(function, torch.ones(3))
    assert len(function) == 2
    replayed = capture.replayed
    for size in (1, 2, 3):
        call(function, torch.ones(size))
    assert capture.replayed == replayed + 2


def test_with_a_gradient_it_runs_as_written() -> None:
    function = GraphedFunction(torch.square, capture=FakeCapture())
    recorded(function, torch.ones(2))
    x = torch.ones(2, requires_grad=True)
    function(x).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [2, 2]


@pytest.mark.parametrize(("count", "replays"), [(0, 0), (1, 1), (4, 1), (5, 1), (8, 1), (9, 0)])
def test_rows_are_padded_to_the_next_recorded_number(count: int, replays: int) -> None:
    capture = FakeCapture()
    conv = nn.Conv2d(2, 3, 1)
    function = GraphedFunction(conv, capture=capture, rows=(8, 4))
    recorded(function, torch.zeros(0, 2, 5, 5))
    assert capture.recorded == 2
    call(function, torch.full((8, 2, 5, 5), torch.nan))  # what an earlier call leaves is not seen
    before = capture.replayed
    x = torch.rand(count, 2, 5, 5)
    with torch.no_grad():
        torch.testing.assert_close(call(function, x), conv(x))
    assert capture.replayed == before + replays


def test_rows_are_recorded_in_the_memory_format_of_the_model() -> None:
    seen = []
    function = GraphedFunction(
        lambda x: seen.append(x.is_contiguous(memory_format=torch.channels_last)) or x * 1,
        capture=FakeCapture(),
        rows=(4,),
        memory_format=torch.channels_last,
    )
    recorded(function, torch.zeros(0, 2, 5, 5))
    assert seen[0] is True


def broken(_: Tensor) -> Tensor:
    raise RuntimeError("operation not permitted when stream is capturing")


Pair = collections.namedtuple("Pair", "a b")  # as somebody's module may return


@pytest.mark.parametrize("output", [lambda x: Pair(x, x), lambda x: x.tolist()])
def test_what_gives_no_plain_tensors_runs_as_written(output: Any) -> None:
    function = GraphedFunction(output, capture=FakeCapture())
    assert type(recorded(function, torch.ones(2))) is type(output(torch.ones(2)))
    assert len(function) == 0


def test_what_cannot_be_recorded_runs_as_written(caplog: pytest.LogCaptureFixture) -> None:
    def capture(function: Any) -> Any:
        return broken(torch.ones(1))

    function = GraphedFunction(torch.neg, capture=capture, name="Mine.forward")
    with caplog.at_level(logging.WARNING):
        assert recorded(function, torch.ones(2)).tolist() == [-1, -1]
        assert recorded(function, torch.ones(3)).tolist() == [-1, -1, -1]
    assert [record.args[0] for record in caplog.records if record.args] == ["Mine.forward"]


def test_lack_of_memory_is_no_refusal() -> None:
    def capture(function: Any) -> Any:
        raise torch.OutOfMemoryError("full")

    function = GraphedFunction(torch.neg, capture=capture)
    with pytest.raises(torch.OutOfMemoryError):
        recorded(function, torch.ones(2))


ARCHITECTURES = {
    "mask": {"MASK_ON": True},
    "keypoint": {"KEYPOINT_ON": True},
    "cascade": {"ROI_HEADS__NAME": "CascadeROIHeads", "ROI_BOX_HEAD__CLS_AGNOSTIC_BBOX_REG": True},
    "retinanet": {"META_ARCHITECTURE": "RetinaNet", "RETINANET__SCORE_THRESH_TEST": 0.3},
    "panoptic": {"META_ARCHITECTURE": "PanopticFPN", "MASK_ON": True},
}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_model_with_recorded_parts_answers_as_without(name: str) -> None:
    model = tiny_model(**ARCHITECTURES[name])
    pictures = [{"image": tiny_image(seed=seed)} for seed in (1, 2)]
    with torch.inference_mode():
        expected = model.predict(pictures)
        capture = FakeCapture()
        graphs = CudaGraphs(model, box_rows=(50, 100), mask_rows=(4, 8, 40), capture=capture)
        with graphs.recording():
            model.predict([{"image": tiny_image(seed=3)}] * 2)
        recorded_graphs = len(graphs)
        before = capture.replayed
        found = model.predict(pictures)
    assert capture.replayed >= before + 2
    assert capture.recorded == recorded_graphs == len(graphs)
    assert any(len(output["instances"]) for output in found)
    for ours, theirs in zip(tensors_of(found), tensors_of(expected), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_removed_graphs_leave_the_model_as_it_was() -> None:
    model = tiny_model(MASK_ON=True)
    before = [set(vars(module)) for module in model.modules()]
    graphs = CudaGraphs(model, box_rows=(50,), mask_rows=(4,), capture=FakeCapture())
    assert [set(vars(module)) for module in model.modules()] != before
    graphs.remove()
    assert [set(vars(module)) for module in model.modules()] == before
    assert len(graphs) == 0

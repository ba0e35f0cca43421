"""A detector that leaves its device and comes back; a CPU stands for both places here."""

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numpy as np
import pytest
import torch
from fake_capture import FakeCapture
from numpy.typing import NDArray

from models.execution import cuda_warm_up
from service.errors import Unavailable
from service.inference import torch_detector
from service.inference.detector import Prediction, at_once
from service.inference.loading import load_torch_detector
from service.inference.torch_detector import TorchDetector
from service.repository.parking import Measured, Parks
from service.settings import PRETRAINED

T = TypeVar("T")


@pytest.fixture
def detector() -> Iterator[TorchDetector]:
    loaded = load_torch_detector(
        config=PRETRAINED / "config.yaml",
        weights=PRETRAINED / "model_final.pth",
        labels=None,
        device="cpu",
    )
    yield loaded
    loaded.close()


@pytest.fixture(scope="module")
def picture() -> NDArray[np.uint8]:
    picture = np.full((160, 240, 3), 200, np.uint8)
    picture[30:90, 20:100] = (30, 60, 20)
    picture[80:140, 130:220] = (10, 20, 90)
    return picture


@pytest.fixture
def on_gpu(
    detector: TorchDetector, picture: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> Callable[[], FakeCapture]:
    """Let ``detector`` think that it runs on a GPU, with recordings that a CPU can make."""
    sizes = [detector.prepare(picture).padded_size]
    capture = FakeCapture()

    def record(model: Any, sizes: Any, **options: Any) -> Any:
        return cuda_warm_up.record_shapes(
            model, sizes, batch_sizes=(1,), capture=capture, has_memory=lambda: True, **options
        )

    def enter() -> FakeCapture:
        monkeypatch.setattr(torch_detector, "record_shapes", record)
        monkeypatch.setattr(detector, "_on_gpu", True)
        detector.warm_up(sizes)
        return capture

    return enter


def answer(detector: TorchDetector, picture: NDArray[np.uint8]) -> Prediction:
    """What it finds, prepared without pinned memory, which needs a GPU."""
    on_gpu, detector._on_gpu = detector._on_gpu, False
    [found] = detector.infer([detector.prepare(picture)])
    detector._on_gpu = on_gpu
    return found


def assert_same(found: Prediction, expected: Prediction) -> None:
    assert found.instances is not None
    assert expected.instances is not None
    assert len(expected.instances) > 0
    for name, value in expected.instances.get_fields().items():
        ours = found.instances.get(name)
        assert torch.equal(getattr(ours, "tensor", ours), getattr(value, "tensor", value)), name


def targets_of(detector: TorchDetector, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Where the model is moved to from here on."""
    model, moved = detector.predictor.model, []
    to = model.to

    def moving(target: Any) -> Any:
        moved.append(str(target))
        return to(target)

    monkeypatch.setattr(model, "to", moving)
    return moved


def test_it_is_measured_and_parks(detector: TorchDetector) -> None:
    assert isinstance(detector, Measured)
    assert isinstance(detector, Parks)


def test_its_size_is_that_of_parameters_and_buffers_until_it_is_closed(
    detector: TorchDetector,
) -> None:
    model = detector.predictor.model
    tensors = [*model.parameters(), *model.buffers()]
    size = sum(tensor.nelement() * tensor.element_size() for tensor in tensors)
    assert detector.nbytes == size > 100_000
    assert detector.close() == size
    assert detector.nbytes == 0
    assert detector.close() == 0


def test_on_a_cpu_it_stays_and_answers_as_before(
    detector: TorchDetector, picture: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = answer(detector, picture)
    moved = targets_of(detector, monkeypatch)
    assert detector.park() == 0
    detector.unpark(call=at_once)
    assert moved == []
    assert_same(answer(detector, picture), before)
    assert detector.close() > 0


def test_parking_drops_the_graphs_and_tells_the_bytes_once(
    detector: TorchDetector,
    picture: NDArray[np.uint8],
    on_gpu: Callable[[], FakeCapture],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    capture = on_gpu()
    moved = targets_of(detector, monkeypatch)
    answer(detector, picture)
    replayed = capture.replayed
    assert replayed > 0
    assert detector.park() == detector.nbytes > 0
    assert detector.park() == 0
    assert set(moved) == {"cpu"}
    answer(detector, picture)
    assert capture.replayed == replayed


def test_back_on_the_device_it_records_the_same_shapes_again_and_answers_bit_for_bit(
    detector: TorchDetector,
    picture: NDArray[np.uint8],
    on_gpu: Callable[[], FakeCapture],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    capture = on_gpu()
    before = answer(detector, picture)
    recorded, replayed = capture.recorded, capture.replayed
    detector.park()
    moved = targets_of(detector, monkeypatch)
    monkeypatch.setattr(detector, "_device", torch.device("cpu:0"))
    steps = []

    def call(step: Callable[[], T], /) -> T:
        steps.append(step)
        return step()

    detector.unpark(call=call)
    assert moved == ["cpu:0"]
    assert len(steps) == 2  # the way back, and the one batch that is recorded
    assert capture.recorded == 2 * recorded > 0
    assert detector.description.execution["cuda_graphs"] == recorded
    assert_same(answer(detector, picture), before)
    assert capture.replayed > replayed


def test_what_was_never_recorded_is_not_recorded_on_the_way_back(
    detector: TorchDetector, picture: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = answer(detector, picture)
    monkeypatch.setattr(detector, "_on_gpu", True)
    assert detector.park() > 0
    detector.unpark(call=at_once)
    assert detector.description.execution["cuda_graphs"] == 0
    assert_same(answer(detector, picture), before)


def test_a_device_without_room_leaves_it_parked_whole(
    detector: TorchDetector, picture: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = answer(detector, picture)
    monkeypatch.setattr(detector, "_on_gpu", True)
    monkeypatch.setattr(detector, "_device", torch.device("cpu:0"))
    detector.park()
    model, moved, to = detector.predictor.model, [], detector.predictor.model.to

    def full(target: Any) -> Any:
        moved.append(str(target))
        if target != "cpu":
            raise torch.OutOfMemoryError("CUDA out of memory")
        return to(target)

    with monkeypatch.context() as patch:
        patch.setattr(model, "to", full)
        with pytest.raises(torch.OutOfMemoryError):
            detector.unpark(call=at_once)
    assert moved == ["cpu:0", "cpu"]
    detector.unpark(call=at_once)
    assert_same(answer(detector, picture), before)


def test_a_thread_that_has_ended_is_the_error_that_is_told(
    detector: TorchDetector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detector, "_on_gpu", True)
    detector.park()

    def ended(step: Callable[[], T], /) -> T:
        raise Unavailable("draining", "The server is shutting down.")

    with pytest.raises(Unavailable):
        detector.unpark(call=ended)


def test_closed_while_parked_it_gives_nothing_back_to_the_device(
    detector: TorchDetector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detector, "_on_gpu", True)
    assert detector.park() > 0
    assert detector.close() == 0
    assert detector.nbytes == 0

"""What the detector leaves to its device, checked on a CPU; and that it closes."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from fake_capture import FakeCapture
from numpy.typing import NDArray

from models.execution import cuda_warm_up
from models.wanted import Wanted
from service.inference import torch_detector
from service.inference.loading import load_torch_detector
from service.inference.torch_detector import TorchDetector
from service.settings import PRETRAINED


def load(**options) -> TorchDetector:
    return load_torch_detector(
        config=PRETRAINED / "config.yaml",
        weights=PRETRAINED / "model_final.pth",
        labels=None,
        device="cpu",
        **options,
    )


@pytest.fixture(scope="module")
def on_host() -> TorchDetector:
    return load(resize="fast")


@pytest.fixture(scope="module")
def on_device() -> TorchDetector:
    """One that lets its device resize, as on a GPU."""
    detector = load(resize="fast")
    detector._device_resizes = True
    return detector


@pytest.fixture(scope="module")
def picture() -> NDArray[np.uint8]:
    generator = np.random.default_rng(0)
    picture = np.full((300, 450, 3), 200, np.uint8)
    picture[60:160, 40:180] = generator.integers(0, 80, 3)
    picture[150:260, 250:400] = generator.integers(0, 80, 3)
    return picture


def test_a_picture_resized_by_the_device_gets_the_same_answer(
    on_host: TorchDetector, on_device: TorchDetector, picture: NDArray[np.uint8]
) -> None:
    prepared, raw = on_host.prepare(picture), on_device.prepare(picture)
    assert raw.tensor.shape == (3, 300, 450)
    assert raw.resize_to == raw.size == prepared.size
    assert raw.padded_size == prepared.padded_size
    (expected,), (found,) = on_host.infer([prepared]), on_device.infer([raw])
    assert expected.instances is not None
    assert found.instances is not None
    assert len(expected.instances) > 0
    for name, value in expected.instances.get_fields().items():
        ours = found.instances.get(name)
        assert torch.equal(getattr(ours, "tensor", ours), getattr(value, "tensor", value))


def test_a_picture_that_shrinks_a_lot_is_resized_by_the_host(
    on_device: TorchDetector, monkeypatch: pytest.MonkeyPatch, picture: NDArray[np.uint8]
) -> None:
    monkeypatch.setattr(torch_detector, "LARGEST_SHRINK_ON_DEVICE", 0.5)
    prepared = on_device.prepare(picture)
    assert prepared.resize_to is None
    assert prepared.tensor.shape[-2:] == prepared.size


def test_views_are_made_of_a_picture_that_the_host_resized(
    on_device: TorchDetector, picture: NDArray[np.uint8]
) -> None:
    prepared = on_device.prepare(picture, tta=on_device.description.tta)
    assert prepared.resize_to is None
    assert len(prepared.views) > 1


def test_a_picture_that_must_not_be_written_to_is_taken(
    on_device: TorchDetector, picture: NDArray[np.uint8]
) -> None:
    frozen = picture[:, ::-1]
    frozen.flags.writeable = False
    assert on_device.prepare(frozen).tensor.shape == (3, 300, 450)


def test_who_resizes_is_part_of_the_recipe(
    on_host: TorchDetector, on_device: TorchDetector
) -> None:
    assert on_host.recipe != on_device.recipe


def test_a_cpu_has_nothing_to_warm_up(on_host: TorchDetector) -> None:
    before = on_host.description
    on_host.warm_up()
    assert on_host.description is before


def test_after_the_warm_up_the_description_tells_what_is_recorded(
    monkeypatch: pytest.MonkeyPatch, picture: NDArray[np.uint8]
) -> None:
    detector = load(mode="exact")
    (expected,) = detector.infer([detector.prepare(picture)])
    sizes = [detector.prepare(picture).padded_size]
    capture = FakeCapture()

    def record(model, _, **options):
        return cuda_warm_up.record_shapes(
            model, sizes, batch_sizes=(1,), capture=capture, has_memory=lambda: True, **options
        )

    detector._on_gpu = True
    monkeypatch.setattr(torch_detector, "record_shapes", record)
    calls = []
    detector.warm_up(call=lambda step: (calls.append(step), step())[1])
    assert len(calls) == 1
    execution = detector.description.execution
    assert execution["cuda_graphs"] == capture.recorded > 2
    assert detector.description.load_report["execution"] == execution
    detector._on_gpu = False
    (found,) = detector.infer([detector.prepare(picture)])
    assert capture.replayed > 0
    assert found.instances is not None
    assert expected.instances is not None
    torch.testing.assert_close(
        found.instances.pred_boxes.tensor, expected.instances.pred_boxes.tensor
    )
    assert detector.close() > 0


def test_what_is_not_wanted_is_left_out_and_its_score_told(
    on_host: TorchDetector, picture: NDArray[np.uint8]
) -> None:
    image = replace(on_host.prepare(picture), wanted=Wanted(max_detections=1, masks=False))
    (found,) = on_host.infer([image])
    assert found.instances is not None
    assert len(found.instances) == 1
    assert not found.instances.has("pred_masks")
    assert len(found.scores) > 1

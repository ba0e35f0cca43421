"""Predictor: pictures of every kind in, the same instances out; errors that say what to do."""

from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from PIL import Image

from models import (
    CheckpointError,
    ConfigError,
    Instances,
    ModelError,
    PathNotAllowedError,
    Predictor,
    build_model,
    load_config,
)
from models.device import resolve_device
from models.predictor import Preprocessing
from models.transforms import resize_image, resize_image_fast, resized_size

ORIENTATION = 0x0112


def assert_same(first: Instances, second: Instances) -> None:
    assert len(first) > 0
    assert torch.equal(first.pred_boxes.tensor, second.pred_boxes.tensor)
    assert torch.equal(first.scores, second.scores)
    assert torch.equal(first.pred_classes, second.pred_classes)
    assert torch.equal(first.pred_masks, second.pred_masks)


def preprocessing(
    input_format: str, min_size: int = 0, resize: Literal["pil", "fast"] = "pil"
) -> Preprocessing:
    return Preprocessing(input_format, min_size, max_size=1333, size_divisibility=32, resize=resize)


def test_instances_are_in_pixels_of_the_picture(
    shapes_predictor: Predictor, shapes_picture: np.ndarray
) -> None:
    instances = shapes_predictor(shapes_picture)
    height, width = shapes_picture.shape[:2]
    boxes = instances.pred_boxes.tensor
    assert instances.image_size == (height, width)
    assert instances.pred_masks.shape == (len(instances), height, width)
    assert instances.pred_masks.dtype == torch.bool
    assert boxes[:, 2].max() > width / 2
    assert boxes.min() >= 0
    assert (boxes <= torch.tensor([width, height, width, height])).all()


def test_instances_come_best_first(shapes_predictor: Predictor, shapes_picture: np.ndarray) -> None:
    scores = shapes_predictor(shapes_picture).scores
    assert torch.equal(scores, scores.sort(descending=True).values)


def test_bgr_arrays_give_the_same_when_they_are_called_bgr(
    shapes_predictor: Predictor, shapes_picture: np.ndarray
) -> None:
    bgr = shapes_predictor(shapes_picture[:, :, ::-1], channel_order="BGR")
    assert_same(shapes_predictor(shapes_picture), bgr)


def test_confusing_the_channels_changes_the_answer(
    shapes_predictor: Predictor, shapes_picture: np.ndarray
) -> None:
    right = shapes_predictor(shapes_picture)
    wrong = shapes_predictor(shapes_picture, channel_order="BGR")
    assert right.scores.tolist() != wrong.scores.tolist()


def test_a_pil_image_knows_its_channels(
    shapes_predictor: Predictor, shapes_picture: np.ndarray
) -> None:
    by_pil = shapes_predictor(Image.fromarray(shapes_picture), channel_order="BGR")
    assert_same(shapes_predictor(shapes_picture), by_pil)


@pytest.mark.parametrize(
    ("orientation", "stored"),
    [(3, lambda x: np.rot90(x, 2)), (6, lambda x: np.rot90(x)), (2, lambda x: x[:, ::-1])],
)
def test_the_exif_orientation_of_a_pil_image_is_applied(
    shapes_predictor: Predictor, shapes_picture: np.ndarray, orientation: int, stored
) -> None:
    image = Image.fromarray(np.ascontiguousarray(stored(shapes_picture)))
    image.getexif()[ORIENTATION] = orientation
    assert_same(shapes_predictor(shapes_picture), shapes_predictor(image))


def test_a_pil_image_of_another_mode_is_converted(
    shapes_predictor: Predictor, shapes_picture: np.ndarray
) -> None:
    image = Image.fromarray(shapes_picture)
    with_alpha = image.copy()
    with_alpha.putalpha(128)
    assert_same(shapes_predictor(image), shapes_predictor(with_alpha))


def test_a_grey_array_equals_one_with_three_equal_channels(
    shapes_predictor: Predictor, shapes_picture: np.ndarray
) -> None:
    grey = np.ascontiguousarray(shapes_picture[:, :, 1])
    assert_same(shapes_predictor(grey), shapes_predictor(np.stack([grey] * 3, axis=2)))


def test_a_picture_in_which_nothing_is_found_has_empty_fields(
    shapes_files: tuple[Path, Path], shapes_picture: np.ndarray
) -> None:
    overrides = ["MODEL.ROI_HEADS.SCORE_THRESH_TEST", 1.0]
    predictor = Predictor.from_files(*shapes_files, device="cpu", overrides=overrides)
    instances = predictor(shapes_picture)
    assert len(instances) == 0
    assert instances.pred_boxes.tensor.shape == (0, 4)
    assert instances.pred_masks.shape == (0, *shapes_picture.shape[:2])
    assert instances.pred_masks.dtype == torch.bool


def test_a_picture_of_one_pixel_has_an_answer(shapes_predictor: Predictor) -> None:
    instances = shapes_predictor(np.zeros((1, 1, 3), dtype=np.uint8))
    assert instances.image_size == (1, 1)


@pytest.mark.parametrize(
    ("picture", "error", "message"),
    [
        ([[1, 2]], TypeError, "not list"),
        ("photo.jpg", TypeError, "not str"),
        (torch.zeros(3, 4, 5, dtype=torch.uint8), TypeError, "not Tensor"),
        (np.zeros((4, 5, 3), dtype=np.float32), TypeError, "uint8 .* not float32; a float image"),
        (np.zeros((4, 5, 4), dtype=np.uint8), ValueError, r"not \(4, 5, 4\)"),
        (np.zeros((3, 4, 5), dtype=np.uint8), ValueError, r"not \(3, 4, 5\)"),
        (np.zeros((2, 4, 5, 3), dtype=np.uint8), ValueError, r"not \(2, 4, 5, 3\)"),
        (np.zeros(5, dtype=np.uint8), ValueError, r"not \(5,\)"),
        (np.zeros((0, 5, 3), dtype=np.uint8), ValueError, "empty"),
        (np.zeros((5, 0), dtype=np.uint8), ValueError, "empty"),
    ],
)
def test_what_is_no_picture_is_refused(
    shapes_predictor: Predictor, picture, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        shapes_predictor(picture)


def test_an_unknown_channel_order_is_refused(shapes_predictor: Predictor) -> None:
    with pytest.raises(ValueError, match="'RGB' or 'BGR', not 'GBR'"):
        shapes_predictor(np.zeros((4, 5, 3), dtype=np.uint8), channel_order="GBR")


@pytest.mark.parametrize(
    ("input_format", "channel_order", "expected"),
    [
        ("RGB", "RGB", [1, 2, 3]),
        ("RGB", "BGR", [3, 2, 1]),
        ("BGR", "RGB", [3, 2, 1]),
        ("BGR", "BGR", [1, 2, 3]),
    ],
)
def test_the_model_gets_its_own_channel_order(
    input_format: str, channel_order: str, expected: list[int]
) -> None:
    image = np.full((4, 5, 3), (1, 2, 3), dtype=np.uint8)
    prepared = preprocessing(input_format)(image, channel_order)
    assert prepared.shape == (3, 4, 5)
    assert prepared.dtype == torch.uint8
    assert prepared[:, 0, 0].tolist() == expected


@pytest.mark.parametrize("resize", ["pil", "fast"])
@pytest.mark.parametrize("min_size", [0, 4, 9])
@pytest.mark.parametrize("size", [(4, 5), (4, 4)])
def test_a_prepared_picture_shares_no_memory(
    size: tuple[int, int], min_size: int, resize: Literal["pil", "fast"]
) -> None:
    for input_format in ("RGB", "BGR"):
        image = np.zeros((*size, 3), dtype=np.uint8)
        preprocessing(input_format, min_size, resize)(image).fill_(7)
        image.setflags(write=False)
        preprocessing(input_format, min_size, resize)(image).fill_(7)
        assert not image.any()


@pytest.mark.parametrize("resize", ["pil", "fast"])
@pytest.mark.parametrize("min_size", [0, 40, 100])
@pytest.mark.parametrize("input_format", ["RGB", "BGR"])
def test_a_prepared_picture_is_the_resized_one_with_channels_last(
    input_format: str, min_size: int, resize: Literal["pil", "fast"]
) -> None:
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    size = resized_size(60, 80, min_size, 1333)
    by = resize_image if resize == "pil" else resize_image_fast
    expected = by(image, *size)[:, :, :: 1 if input_format == "RGB" else -1]
    prepared = preprocessing(input_format, min_size, resize)(image)
    assert np.array_equal(prepared.permute(1, 2, 0).numpy(), expected)
    assert prepared.permute(1, 2, 0).is_contiguous()


def test_a_picture_is_resized_and_its_padded_size_known() -> None:
    prepare = preprocessing("BGR", min_size=40)
    prepared = prepare(np.zeros((20, 50, 3), dtype=np.uint8))
    assert prepared.shape == (3, 40, 100)
    assert prepare.padded_size(prepared) == (64, 128)


def test_an_input_format_that_cannot_be_served_is_refused(
    shapes_predictor: Predictor, shapes_files: tuple[Path, Path]
) -> None:
    cfg = load_config(shapes_files[0], ["INPUT.FORMAT", "YUV-BT.601"])
    with pytest.raises(ConfigError, match=r"INPUT\.FORMAT is 'YUV-BT\.601'"):
        Predictor(shapes_predictor.model, cfg)


def test_a_model_in_training_mode_is_put_into_evaluation(shapes_files: tuple[Path, Path]) -> None:
    cfg = load_config(shapes_files[0])
    predictor = Predictor(build_model(cfg).train(), cfg)
    assert not predictor.model.training
    assert predictor.report is None


def test_from_files_reports_what_was_loaded(shapes_predictor: Predictor) -> None:
    assert shapes_predictor.report is not None
    assert shapes_predictor.device == torch.device("cpu")


def test_from_files_switches_tf32_off(shapes_files: tuple[Path, Path]) -> None:
    torch.backends.cudnn.allow_tf32 = True
    Predictor.from_files(*shapes_files, device="cpu")
    assert not torch.backends.cudnn.allow_tf32
    assert not torch.backends.cuda.matmul.allow_tf32


def test_overrides_change_the_config(
    shapes_files: tuple[Path, Path], shapes_picture: np.ndarray
) -> None:
    predictor = Predictor.from_files(
        *shapes_files, device="cpu", overrides=["MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.9]
    )
    assert predictor(shapes_picture).scores.min() > 0.9


def test_a_missing_config_is_a_config_error(shapes_files: tuple[Path, Path]) -> None:
    with pytest.raises(ConfigError, match="nothing"):
        Predictor.from_files("nothing.yaml", shapes_files[1], device="cpu")


def test_missing_weights_are_a_checkpoint_error(shapes_files: tuple[Path, Path]) -> None:
    with pytest.raises(CheckpointError, match="nothing"):
        Predictor.from_files(shapes_files[0], "nothing.pth", device="cpu")


def test_weights_of_another_model_are_a_checkpoint_error(shapes_files: tuple[Path, Path]) -> None:
    overrides = ["MODEL.ROI_HEADS.NUM_CLASSES", 5]
    with pytest.raises(CheckpointError, match="5"):
        Predictor.from_files(*shapes_files, device="cpu", overrides=overrides)


def test_a_config_outside_of_the_root_is_refused(
    shapes_files: tuple[Path, Path], tmp_path: Path
) -> None:
    with pytest.raises(PathNotAllowedError):
        Predictor.from_files(*shapes_files, device="cpu", root=tmp_path)


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "cpu:0", "", "cuda:-1", "mps"])
def test_an_unknown_device_is_refused(name: str) -> None:
    with pytest.raises(ModelError, match="Unknown device"):
        resolve_device(name)


def test_a_gpu_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert resolve_device("cuda:1") == torch.device("cuda", 1)
    with pytest.raises(ModelError, match=r"'cuda:2' .* 2 usable GPU"):
        resolve_device("cuda:2")


@pytest.mark.parametrize(("usable", "expected"), [(True, "cuda:0"), (False, "cpu")])
def test_auto_takes_a_gpu_when_one_works(
    monkeypatch: pytest.MonkeyPatch, usable: bool, expected: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: usable)
    assert resolve_device("auto") == torch.device(expected)


def test_without_a_gpu_cuda_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ModelError, match="0 usable GPU"):
        resolve_device("cuda")


@pytest.mark.parametrize("mode", ["I", "F", "I;16"])
def test_a_pil_image_of_more_than_8_bits_is_refused(shapes_predictor: Predictor, mode: str) -> None:
    with pytest.raises(TypeError, match="more than 8 bits"):
        shapes_predictor(Image.new(mode, (8, 8)))


def test_outputs_has_what_the_model_gives(shapes_predictor: Predictor) -> None:
    picture = np.full((40, 40, 3), 127, dtype=np.uint8)
    outputs = shapes_predictor.outputs(picture)
    assert list(outputs) == ["instances"]
    assert outputs["instances"].image_size == (40, 40)

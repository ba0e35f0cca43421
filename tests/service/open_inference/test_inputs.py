"""Input tensors -> images."""

import base64
from typing import Any

import numpy as np
import pytest

from service.errors import ApiError
from service.images import ImageLimits, decode_image
from service.open_inference.bytes_tensors import join_elements
from service.open_inference.inputs import read_images
from service.open_inference.messages import InputTensor
from service.uploads import Upload, UploadLimits

LIMITS = UploadLimits(max_images=3)


def read(name: str, datatype: str, shape: list[int], **content: Any) -> list[Upload]:
    return read_images([InputTensor(name, datatype, tuple(shape), **content)], LIMITS)


def pixels_of(upload: Upload) -> Any:
    assert upload.data is not None
    return decode_image(upload.data, ImageLimits()).pixels


# --- files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [[2], [2, 1]])
def test_files_come_as_raw_elements(shape: list[int]) -> None:
    uploads = read("IMAGE", "BYTES", shape, raw=join_elements([b"one", b"two"]))
    assert [upload.data for upload in uploads] == [b"one", b"two"]
    assert [upload.name for upload in uploads] == ["IMAGE[0]", "IMAGE[1]"]


@pytest.mark.parametrize("nested", [True, False])
def test_files_come_as_base64_nested_or_flat(nested: bool) -> None:
    texts = [base64.b64encode(data).decode() for data in (b"one", b"two")]
    values = [[text] for text in texts] if nested else texts
    uploads = read("IMAGE", "BYTES", [2, 1], values=values)
    assert [upload.data for upload in uploads] == [b"one", b"two"]


def test_files_come_as_the_bytes_of_a_message() -> None:
    assert read("IMAGE", "BYTES", [1], values=[b"one"])[0].data == b"one"


@pytest.mark.parametrize(
    ("value", "code"),
    [("not base64!", "invalid_base64"), (7, "invalid_image_item"), ("", "empty_image")],
)
def test_an_element_that_is_no_file_has_its_own_error(value: Any, code: str) -> None:
    good, bad = read("IMAGE", "BYTES", [2], values=["b25l", value])
    assert good.data == b"one"
    assert bad.error is not None
    assert bad.error.code == code


# --- pixels ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [(), (1,), (3,)])
def test_pixels_arrive_as_they_are(batch: tuple[int, ...]) -> None:
    samples = np.random.default_rng(0).integers(0, 256, (*batch, 5, 7, 3), dtype=np.uint8)
    uploads = read("PIXELS", "UINT8", list(samples.shape), raw=samples.tobytes())
    found = np.stack([pixels_of(upload) for upload in uploads])
    assert np.array_equal(found, samples.reshape(-1, 5, 7, 3))


@pytest.mark.parametrize("flat", [True, False])
def test_pixels_in_json_are_numbers_nested_or_flat(flat: bool) -> None:
    samples = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    values = samples.reshape(-1).tolist() if flat else samples.tolist()
    [upload] = read("PIXELS", "UINT8", [2, 3, 3], values=values)
    assert np.array_equal(pixels_of(upload), samples)


@pytest.mark.parametrize(
    "values",
    [
        [256, 0, 0],
        [-1, 0, 0],
        [0.5, 0, 0],
        [True, False, True],
        ["0", "0", "0"],
        [[0, 0], [0]],
        [2**70, 0, 0],
        [],
        None,
        {"a": 1},
        "abc",
    ],
)
def test_data_that_is_no_list_of_samples_is_refused(values: Any) -> None:
    with pytest.raises(ApiError) as refused:
        read("PIXELS", "UINT8", [1, 1, 3], values=values)
    assert (refused.value.status, refused.value.code) == (422, "invalid_request")


# --- shapes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "datatype", "shape", "code"),
    [
        ("IMAGE", "UINT8", [1], "invalid_request"),
        ("IMAGE", "BYTES", [], "invalid_request"),
        ("IMAGE", "BYTES", [0], "invalid_request"),
        ("IMAGE", "BYTES", [1, 2], "invalid_request"),
        ("IMAGE", "BYTES", [4], "too_many_images"),
        ("IMAGE", "BYTES", [2**31 - 1], "too_many_images"),
        ("PIXELS", "FP32", [1, 1, 3], "invalid_request"),
        ("PIXELS", "UINT8", [1, 3], "invalid_request"),
        ("PIXELS", "UINT8", [3, 1, 1], "invalid_request"),
        ("PIXELS", "UINT8", [0, 1, 3], "invalid_request"),
        ("PIXELS", "UINT8", [4, 1, 1, 3], "too_many_images"),
        ("PIXELS", "UINT8", [2**31 - 1, 2**31 - 1, 3], "malformed_tensor"),
        ("PIXELS", "UINT8", [1, 2, 3], "malformed_tensor"),
        ("image", "BYTES", [1], "invalid_request"),
    ],
)
def test_another_input_type_or_shape_is_refused(
    name: str, datatype: str, shape: list[int], code: str
) -> None:
    with pytest.raises(ApiError) as refused:
        read(name, datatype, shape, raw=b"\0\0\0")
    assert refused.value.code == code


def test_a_request_has_exactly_one_input() -> None:
    pixels = InputTensor("PIXELS", "UINT8", (1, 1, 3), raw=b"123")
    image = InputTensor("IMAGE", "BYTES", (1,), raw=join_elements([b"one"]))
    for inputs in ([], [pixels, image], [image, image]):
        with pytest.raises(ApiError) as refused:
            read_images(inputs, LIMITS)
        assert refused.value.code == "invalid_request"

"""Answers of the pipeline -> outputs."""

from typing import Any

import numpy as np
import orjson
import pytest
from fake_detector import FakeDetector

from service.errors import ApiError, Unprocessable
from service.inference.pipeline import ImageAnswer
from service.open_inference.messages import OutputTensor
from service.open_inference.outputs import check_outputs, encode_outputs, outputs_of


def answer(count: int, **more: Any) -> ImageAnswer:
    instances = {
        "pred_boxes": np.full((count, 4), count, dtype=np.float32),
        "scores": np.linspace(1, 0, count, dtype=np.float32),
        "pred_classes": np.arange(count),
        "class_names": [f"é{i}" for i in range(count)],
        "masks": [{"size": [2, 3], "counts": "06"}] * count,
    }
    return ImageAnswer("a", outputs={"instances": instances | more})


def encode(*answers: ImageAnswer, wanted: list[str] | None = None, **described: Any) -> Any:
    model = FakeDetector(**described).description
    return {tensor.name: tensor for tensor in encode_outputs(answers, wanted, model, masks=True)}


def values(tensor: OutputTensor) -> Any:
    return tensor.content if isinstance(tensor.content, list) else tensor.content.tolist()


def test_instances_of_all_images_follow_each_other() -> None:
    found = encode(answer(2), answer(0), answer(1))
    assert found["pred_boxes"].shape == (3, 4)
    assert values(found["pred_boxes"])[-1] == [1.0] * 4
    assert values(found["num_instances"]) == [2, 0, 1]
    assert values(found["image_index"]) == [0, 0, 2]
    assert values(found["pred_classes"]) == [0, 1, 0]
    assert values(found["class_names"]) == ["é0".encode(), "é1".encode(), "é0".encode()]
    assert [orjson.loads(mask) for mask in values(found["masks_rle"])] == [
        {"size": [2, 3], "counts": "06"}
    ] * 3


def test_datatypes_and_shapes_are_those_that_the_metadata_tell() -> None:
    keypoints = np.zeros((2, 3, 3), dtype=np.float32)
    described = {
        "outputs": ("instances", "masks", "keypoints"),
        "keypoint_names": ("a", "b", "c"),
    }
    found = encode(answer(2, pred_keypoints=keypoints), **described)
    told = outputs_of(FakeDetector(**described).description)
    assert list(found) == [output.name for output in told]
    for output in told:
        tensor = found[output.name]
        assert tensor.datatype == output.datatype
        assert len(tensor.shape) == len(output.shape)
        assert all(n in (-1, m) for n, m in zip(output.shape, tensor.shape, strict=True))


def test_nothing_found_gives_empty_tensors_of_the_right_shape() -> None:
    found = encode(answer(0), wanted=["pred_boxes", "scores", "masks_rle", "num_instances"])
    assert [tensor.shape for tensor in found.values()] == [(0, 4), (0,), (0,), (1,)]


def test_rotated_boxes_have_five_columns() -> None:
    found = encode(answer(0), wanted=["pred_boxes"], box_mode="XYWHA_ABS")
    assert found["pred_boxes"].shape == (0, 5)


def test_the_outputs_come_in_the_order_that_was_asked_for() -> None:
    assert list(encode(answer(1), wanted=["scores", "pred_boxes"])) == ["scores", "pred_boxes"]


def test_errors_of_images_are_an_output_of_their_own() -> None:
    failed = ImageAnswer("b", error=Unprocessable("invalid_image", "It is broken."))
    found = encode(answer(1), failed, wanted=["errors", "num_instances"])
    assert values(found["num_instances"]) == [1, 0]
    none, error = values(found["errors"])
    assert none == b""
    assert orjson.loads(error) == {"code": "invalid_image", "message": "It is broken."}


def test_maps_and_proposals_have_outputs_too() -> None:
    outputs = {
        "sem_seg": {"format": "png", "segments": []},
        "proposals": {
            "proposal_boxes": np.ones((2, 4), dtype=np.float32),
            "objectness_logits": np.ones(2, dtype=np.float32),
        },
    }
    found = encode(ImageAnswer("a", outputs=outputs), outputs=("sem_seg", "proposals"))
    assert orjson.loads(values(found["sem_seg"])[0]) == outputs["sem_seg"]
    assert found["proposal_boxes"].shape == (2, 4)
    assert values(found["num_proposals"]) == [2]
    assert "pred_boxes" not in found


@pytest.mark.parametrize("wanted", [["boxes"], ["scores", "scores"], ["x" * 1000], ["sem_seg"]])
def test_outputs_that_there_are_not_are_refused(wanted: list[str]) -> None:
    with pytest.raises(ApiError) as refused:
        check_outputs(wanted, FakeDetector().description)
    assert refused.value.code == "unknown_output"
    assert len(refused.value.message) < 300

"""Every architecture, served from its files: what HTTP answers is what the model itself answers.

One request to a small seeded model of each; no fakes but the missing socket.
"""

import asyncio
import base64
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from golden import GOLDEN
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco
from small_models import MODELS, SmallModel, write_small_model

from models import Boxes, Instances, Predictor
from service.app import create_app
from service.runtime import Runtime
from service.schemas.answers import ModelAnswer, PredictAnswer
from service.settings import Settings

HEIGHT, WIDTH = 100, 150
TTA = ["flip", "full", "64,80"]
PROPOSALS = [[0.0, 0.0, 60.0, 50.0], [20.0, 20.0, 90.0, 95.0], [5.0, 5.0, 150.0, 60.0]]


@dataclass
class Served:
    """One model: what it is, what HTTP said, and what the model itself answers."""

    small: SmallModel
    described: dict[str, Any]
    answers: dict[str, httpx.Response]  # by name of the request, see `requests`
    direct: dict[str, Any]

    def prediction(self, request: str = "plain") -> dict[str, Any]:
        response = self.answers[request]
        assert response.status_code == 200, response.text
        prediction: dict[str, Any] = response.json()["predictions"][0]
        return prediction


def scene() -> Image.Image:
    return Image.open(GOLDEN / "scene_a.png").convert("RGB").resize((WIDTH, HEIGHT))


def requests(name: str) -> dict[str, dict[str, Any]]:
    """Options of the requests that are sent, all as form fields.

    A dumped Python config has no sizes of its own for ``tta=full``; Detectron2's, up to 1200 pixels,
    would take long.
    """
    given = {"proposals": str([PROPOSALS])} if name == "fast_rcnn" else {}
    sent = {"plain": given, "rle": given | {"segmentation": "rle", "masks": "none"}}
    forms = ["flip", "64,80"] if MODELS[name].source.startswith("lazy__") else TTA
    return sent | {tta: given | {"tta": tta} for tta in forms}


def predict_directly(name: str, config: Path | None, weights: Path) -> dict[str, Any]:
    predictor = Predictor.from_files(config, weights, device="cpu")
    image = predictor.preprocess(np.asarray(scene()))
    one: dict[str, Any] = {"image": image, "height": HEIGHT, "width": WIDTH}
    if name == "fast_rcnn":
        height, width = image.shape[-2:]
        scale = torch.tensor([width / WIDTH, height / HEIGHT] * 2)
        one["proposals"] = Instances(
            (height, width),
            proposal_boxes=Boxes(torch.tensor(PROPOSALS) * scale),
            objectness_logits=torch.zeros(len(PROPOSALS)),
        )
    with torch.inference_mode():
        answer: dict[str, Any] = predictor.model([one])[0]
    return answer


async def ask(runtime: Runtime, name: str) -> tuple[dict[str, Any], dict[str, httpx.Response]]:
    buffer = io.BytesIO()
    scene().save(buffer, "PNG")
    transport = httpx.ASGITransport(create_app(runtime))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        described = (await client.get("/models")).json()["models"][0]
        answers = {}
        for request, options in requests(name).items():
            files = {"images": ("scene.png", buffer.getvalue())}
            answers[request] = await client.post("/predict", files=files, data=options)
    return described, answers


@pytest.fixture(scope="module", params=MODELS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def served(name: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    config, weights = write_small_model(name, tmp_path_factory.mktemp(name))
    direct = predict_directly(name, config, weights)
    runtime = Runtime(
        Settings(_env_file=None, config=config, weights=weights, device="cpu", threads=2)
    )
    try:
        runtime.load()
        described, answers = asyncio.run(ask(runtime, name))
    finally:
        runtime.close()
    yield Served(MODELS[name], described, answers, direct)
    weights.unlink()


def test_models_tells_its_task_and_its_outputs(served: Served) -> None:
    described = ModelAnswer.model_validate(served.described)
    assert described.task == served.small.task
    assert described.outputs == list(served.small.outputs)
    assert described.box_mode == ("XYWHA_ABS" if "rotated" in described.task else "XYXY_ABS")
    assert (described.tta is not None) == served.small.tta


def test_the_answer_is_as_documented_and_has_its_outputs(name: str, served: Served) -> None:
    answer = PredictAnswer.model_validate(served.answers["plain"].json())
    [prediction] = answer.predictions
    outputs = set(served.small.outputs) - {"masks", "keypoints"}
    whole = prediction.model_dump(exclude_unset=True)
    assert set(whole) == outputs | {"image", "batch_size"}
    assert prediction.image.model_dump() == {"name": "scene.png", "width": WIDTH, "height": HEIGHT}
    assert answer.model.architecture == served.described["architecture"]
    found = prediction.instances
    if found is not None:
        assert len(found.scores) > 0
        assert (found.masks is not None) == ("masks" in served.small.outputs)
        assert (found.pred_keypoints is not None) == ("keypoints" in served.small.outputs)
        assert (found.polygons is not None) == (name == "rotated")


def test_instances_are_those_of_the_model(served: Served) -> None:
    if "instances" not in served.small.outputs:
        assert "instances" not in served.prediction()
        return
    expected, found = served.direct["instances"], served.prediction()["instances"]
    assert len(found["scores"]) == len(expected) > 0
    assert found["pred_classes"] == expected.pred_classes.tolist()
    close(found["scores"], expected.scores, 1e-4)
    close(found["pred_boxes"], expected.pred_boxes.tensor, 1e-2)
    names = [served.described["classes"][i]["name"] for i in found["pred_classes"]]
    assert found["class_names"] == names
    if expected.has("pred_keypoints"):
        close(found["pred_keypoints"], expected.pred_keypoints, 1e-2)
    if expected.has("pred_masks"):
        frames = [decode(mask) for mask in found["masks"]]
        np.testing.assert_array_equal(np.stack(frames), expected.pred_masks.numpy())
    if "polygons" in found:
        close(found["polygons"], expected.pred_boxes.polygons(), 1e-2)


def test_proposals_are_those_of_the_model(served: Served) -> None:
    if "proposals" not in served.small.outputs:
        assert "proposals" not in served.prediction()
        return
    expected, found = served.direct["proposals"], served.prediction()["proposals"]
    assert len(expected) > 0
    close(found["proposal_boxes"], expected.proposal_boxes.tensor, 1e-2)
    close(found["objectness_logits"], expected.objectness_logits, 1e-3)


def test_a_semantic_map_is_the_best_class_of_each_pixel(served: Served) -> None:
    if "sem_seg" not in served.small.outputs:
        assert "sem_seg" not in served.prediction()
        return
    best = served.direct["sem_seg"].argmax(dim=0).numpy()
    found = served.prediction()["sem_seg"]
    assert len(found["segments"]) > 3
    np.testing.assert_array_equal(png(found), best)
    for segment in found["segments"]:
        assert segment["area"] == (best == segment["category_id"]).sum()
        name = served.described["stuff_classes"][segment["category_id"]]["name"]
        assert segment["category_name"] == name


def test_a_panoptic_map_is_the_models_own(served: Served) -> None:
    if "panoptic_seg" not in served.small.outputs:
        assert "panoptic_seg" not in served.prediction()
        return
    segments, infos = served.direct["panoptic_seg"]
    found = served.prediction()["panoptic_seg"]
    np.testing.assert_array_equal(png(found), segments.numpy())
    kinds = [(info["id"], info["isthing"], info["category_id"]) for info in found["segments_info"]]
    assert kinds == [(info["id"], info["isthing"], info["category_id"]) for info in infos]
    assert {info["isthing"] for info in infos} == {True, False}
    for info in found["segments_info"]:
        classes = served.described["classes" if info["isthing"] else "stuff_classes"]
        assert info["category_name"] == classes[info["category_id"]]["name"]
        assert info["area"] == (segments == info["id"]).sum()


def test_maps_as_rle_are_the_same_maps(served: Served) -> None:
    plain, masks = served.prediction(), served.prediction("rle")
    PredictAnswer.model_validate(served.answers["rle"].json())
    assert set(plain) == set(masks)
    for output, key, number in (
        ("sem_seg", "segments", "category_id"),
        ("panoptic_seg", "segments_info", "id"),
    ):
        if output in plain:
            assert "png" not in masks[output]
            values = png(plain[output])
            for segment in masks[output][key]:
                frame = decode(segment["segmentation"])
                np.testing.assert_array_equal(frame, values == segment[number])


@pytest.mark.parametrize("tta", TTA)
def test_test_time_augmentation_answers_or_says_that_there_is_none(
    served: Served, tta: str
) -> None:
    if tta not in served.answers:
        assert served.described["tta"]["sizes"] == list(range(400, 1300, 100))
        return
    response = served.answers[tta]
    if not served.small.tta:
        assert response.status_code == 422, response.text
        assert response.json()["error"]["code"] == "tta_not_supported"
        return
    PredictAnswer.model_validate(response.json())
    plain, found = served.prediction()["instances"], served.prediction(tta)["instances"]
    assert set(found) == set(plain)
    assert len(found["scores"]) > 0
    assert found["scores"] != plain["scores"]
    assert found["scores"] == sorted(found["scores"], reverse=True)


def close(found: list[Any], expected: torch.Tensor, tolerance: float) -> None:
    given = torch.tensor(found, dtype=torch.float32)
    torch.testing.assert_close(given, expected.float(), rtol=0, atol=tolerance)


def decode(mask: dict[str, Any]) -> NDArray[np.bool_]:
    frame = coco.decode({"size": mask["size"], "counts": mask["counts"].encode()})
    return np.asarray(frame, dtype=bool)


def png(found: dict[str, Any]) -> NDArray[np.int64]:
    picture = Image.open(io.BytesIO(base64.b64decode(found["png"])))
    return np.asarray(picture, dtype=np.int64)

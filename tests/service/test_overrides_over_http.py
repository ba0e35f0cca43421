"""Thresholds of a request through the whole service, with a real model: NMS, more instances, classes."""

import asyncio
import base64
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from golden import GOLDEN
from small_models import write_small_model
from torchvision.ops import box_iou

from models import load_config
from service.app import create_app
from service.runtime import Runtime
from service.schemas.answers import ErrorAnswer, ModelAnswer
from service.settings import Settings

SCENE = (GOLDEN / "scene_a.png").read_bytes()
REQUESTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "own": {"nms_threshold": 0.5},
    "loose": {"nms_threshold": 1, "max_detections": 40},
    "tight": {"nms_threshold": "0.05"},
    "many": {"max_detections": 41},
    "classes": {"class_thresholds": "thing_1:1,0:0.2"},
    "tiles": {"tiles": "400x400", "nms_threshold": 0.1},
}


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    """A small RetinaNet that keeps 20 instances, of which a request may ask for 40."""
    folder = tmp_path_factory.mktemp("retinanet")
    config, weights = write_small_model("retinanet", folder)
    assert config is not None
    cfg = load_config(config, ["TEST.DETECTIONS_PER_IMAGE", 20])
    config.write_text(cfg.dump())
    (folder / "labels.txt").write_text("thing_0\nthing_1\nthing_2\n")
    settings = Settings(
        _env_file=None,
        config=config,
        weights=weights,
        device="cpu",
        threads=2,
        max_detections_limit=40,
    )
    runtime = Runtime(settings)
    try:
        runtime.load()
        yield runtime
    finally:
        runtime.close()


@pytest.fixture(scope="module")
def answers(runtime: Runtime) -> dict[str, httpx.Response]:
    async def ask() -> dict[str, httpx.Response]:
        transport = httpx.ASGITransport(create_app(runtime))
        async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
            works = [  # at once, so that they may share a batch
                client.post("/predict", params=options, files={"images": ("a.png", SCENE)})
                for options in REQUESTS.values()
            ]
            found = dict(zip(REQUESTS, await asyncio.gather(*works), strict=True))
            body = {
                "images": [base64.b64encode(SCENE).decode()],
                "class_thresholds": {"thing_1": 1, "0": 0.2},
                "nms_threshold": None,
            }
            form = {"class_thresholds": '{"thing_1": 1, "0": 0.2}'}
            files = {"images": ("a.png", SCENE)}
            found["json"] = await client.post("/predict", json=body)
            found["form"] = await client.post("/predict", data=form, files=files)
            found["model"] = await client.get("/models")
            return found

    return asyncio.run(ask())


def instances(answers: dict[str, httpx.Response], request: str) -> dict[str, Any]:
    response = answers[request]
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()["predictions"][0]["instances"]
    return found


def test_the_models_own_threshold_changes_nothing(answers: dict[str, httpx.Response]) -> None:
    plain = instances(answers, "plain")
    assert len(plain["scores"]) == 20
    own = instances(answers, "own")  # to rounding: perhaps in a batch of another size
    assert own["class_names"] == plain["class_names"]
    assert own["scores"] == pytest.approx(plain["scores"], abs=1e-5)
    assert np.array(own["pred_boxes"]) == pytest.approx(np.array(plain["pred_boxes"]), abs=1e-3)


def test_a_loose_threshold_and_a_higher_cap_give_more(answers: dict[str, httpx.Response]) -> None:
    loose = instances(answers, "loose")["scores"]
    assert len(loose) == 40
    assert loose == sorted(loose, reverse=True)


def test_a_tight_threshold_gives_other_instances(answers: dict[str, httpx.Response]) -> None:
    assert instances(answers, "tight")["scores"] != instances(answers, "plain")["scores"]


def test_no_two_instances_of_a_class_overlap_across_tiles_either(
    answers: dict[str, httpx.Response],
) -> None:
    found = instances(answers, "tiles")
    boxes, classes = torch.tensor(found["pred_boxes"]), torch.tensor(found["pred_classes"])
    same = (classes[:, None] == classes[None]).triu(diagonal=1)
    assert same.any()
    assert float(box_iou(boxes, boxes)[same].max()) < 0.25  # clipping at the rim changes an IoU


def test_more_than_the_servers_bound_is_refused(answers: dict[str, httpx.Response]) -> None:
    assert answers["many"].status_code == 422
    error = ErrorAnswer.model_validate(answers["many"].json()).error
    assert error.code == "max_detections_too_high"
    assert "above 40" in error.message


def test_models_tells_what_may_be_asked_for(answers: dict[str, httpx.Response]) -> None:
    model = ModelAnswer.model_validate(answers["model"].json()["models"][0])
    assert model.takes_overrides
    assert (model.thresholds.max_detections, model.thresholds.largest_max_detections) == (20, 40)


def test_classes_have_thresholds_of_their_own_in_query_form_and_json(
    answers: dict[str, httpx.Response],
) -> None:
    plain = instances(answers, "plain")
    expected = [
        (score, name)
        for score, name in zip(plain["scores"], plain["class_names"], strict=True)
        if score >= {"thing_1": 1, "thing_0": 0.2}.get(name, 0)
    ]
    assert 0 < len(expected) < len(plain["scores"])
    for request in ("classes", "json", "form"):
        found = instances(answers, request)
        # Batches of other sizes round otherwise.
        assert found["class_names"] == [name for _, name in expected]
        assert found["scores"] == pytest.approx([score for score, _ in expected], abs=1e-5)

"""GET /models and /models/{name}."""

import asyncio
from datetime import UTC, datetime

import pytest
from fake_detector import FakeDetector
from fake_server import Serve

from service.encoding.palette import class_color, hex_color
from service.inference.detector import Views
from service.schemas.answers import ErrorAnswer, ModelAnswer, ModelsAnswer

pytestmark = pytest.mark.anyio


async def test_the_list_names_the_default_and_describes_each(serve: Serve) -> None:
    response = await serve().client.get("/models")
    answer = ModelsAnswer.model_validate(response.json())
    assert answer.default == "shapes"
    assert [model.name for model in answer.models] == ["shapes"]


async def test_a_model_tells_its_classes_thresholds_sizes_and_weights(serve: Serve) -> None:
    response = await serve().client.get("/models/shapes")
    model = ModelAnswer.model_validate(response.json())
    assert (model.version, model.state, model.task) == ("1", "ready", "instance_segmentation")
    assert [(kind.id, kind.name) for kind in model.classes] == [
        (0, "disc"), (1, "square"), (2, "star, red"), (3, "1"),
    ]  # fmt: skip
    assert len({kind.color for kind in model.classes}) == 4
    assert model.class_names_source == "labels.txt"
    assert model.thresholds.model_dump() == {
        "score": 0.05, "nms": 0.5, "max_detections": 100,
        "default_score": 0.05, "default_max_detections": 100, "largest_max_detections": 100,
    }  # fmt: skip
    assert model.input.model_dump() == {"format": "BGR", "min_size": 64, "max_size": 128}
    assert model.weights.model_dump() == {"file": "model_final.pth", "sha256": f"{1:064x}"}
    assert model.load_report == {"missing": []}


async def test_the_time_of_loading_is_utc_and_not_in_the_future(serve: Serve) -> None:
    model = (await serve().client.get("/models/shapes")).json()
    loaded = datetime.fromisoformat(model["loaded_at"])
    assert loaded.utcoffset() is not None
    assert loaded <= datetime.now(UTC)


async def test_an_unknown_model_is_404(serve: Serve) -> None:
    response = await serve().client.get("/models/car")
    assert response.status_code == 404
    error = ErrorAnswer.model_validate(response.json()).error
    assert error.code == "unknown_model"
    assert error.details == {"models": ["shapes"]}


async def test_a_reload_is_seen_and_then_the_new_version(serve: Serve) -> None:
    served = serve()
    served.loader.go.clear()
    job_id = (await served.client.post("/reload", json={"wait": False})).json()["id"]
    assert (await served.client.get("/models/shapes")).json()["state"] == "reloading"
    served.loader.go.set()
    job = served.runtime.repository.jobs.get(job_id)
    assert await asyncio.to_thread(job.finished.wait, 20)
    model = (await served.client.get("/models/shapes")).json()
    assert (model["state"], model["version"]) == ("ready", "2")


async def test_before_a_model_is_loaded_the_answer_is_503(serve: Serve) -> None:
    served = serve(load=False)
    for path in ("/models", "/models/shapes"):
        response = await served.client.get(path)
        assert response.status_code == 503
        assert response.json()["error"]["code"] == "not_ready"


async def test_a_model_tells_what_it_answers_with_and_what_it_takes(serve: Serve) -> None:
    detector = FakeDetector(
        task="keypoint_detection",
        outputs=("instances", "keypoints"),
        keypoint_names=("head", "hand"),
        keypoint_skeleton=((0, 1),),
        stuff_class_names=("things", "sky"),
        box_mode="XYWHA_ABS",
        takes_proposals=True,
        tta=Views((40, 50), 90, flip=True),
    )
    response = await serve(detector).client.get("/models/shapes")
    model = ModelAnswer.model_validate(response.json())
    assert model.outputs == ["instances", "keypoints"]
    assert (model.keypoint_names, model.keypoint_skeleton) == (["head", "hand"], [(0, 1)])
    assert [(kind.id, kind.name) for kind in model.stuff_classes] == [(0, "things"), (1, "sky")]
    assert (model.box_mode, model.takes_proposals) == ("XYWHA_ABS", True)
    assert model.tta is not None
    assert model.tta.model_dump() == {"sizes": [40, 50], "max_size": 90, "flip": True}


async def test_a_model_without_tta_says_null(serve: Serve) -> None:
    model = (await serve().client.get("/models/shapes")).json()
    assert model["tta"] is None
    assert not model["takes_proposals"]
    assert model["stuff_classes"] == model["keypoint_names"] == model["keypoint_skeleton"] == []


async def test_a_model_tells_what_its_owner_set(serve: Serve) -> None:
    detector = FakeDetector(
        class_colors=((255, 136, 0), None),
        default_score_threshold=0.5,
        default_max_detections=50,
        about="finds shapes",
    )
    response = await serve(detector).client.get("/models/shapes")
    model = ModelAnswer.model_validate(response.json())
    colors = [kind.color for kind in model.classes]
    assert colors == ["#ff8800", *(hex_color(class_color(i)) for i in (1, 2, 3))]
    assert (model.thresholds.default_score, model.thresholds.score) == (0.5, 0.05)
    assert model.thresholds.default_max_detections == 50
    assert model.description == "finds shapes"


async def test_the_classes_of_a_semantic_model_have_their_colours_in_both_lists(
    serve: Serve,
) -> None:
    detector = FakeDetector(
        task="semantic_segmentation",
        outputs=("sem_seg",),
        class_names=("sky", "road"),
        stuff_class_names=("sky", "road"),
        class_colors=(None, (1, 2, 3)),
    )
    response = await serve(detector).client.get("/models/shapes")
    model = ModelAnswer.model_validate(response.json())
    assert model.classes == model.stuff_classes
    assert model.classes[1].color == "#010203"

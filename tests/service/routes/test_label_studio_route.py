"""Label Studio's ML backend over HTTP."""

import base64
from typing import Any

import httpx
import pytest
from fake_detector import FakeDetector, picture
from fake_server import Serve, Served

from service.label_studio import images
from service.label_studio.tasks import TOGETHER
from service.schemas.label_studio import LabelStudioPrediction, LabelStudioPredictions
from service.uploads.remote import RemoteLimits

pytestmark = pytest.mark.anyio

LABELS = '<Label value="Disc"/><Label value="Box" predicted_values="square"/>'
CONFIG = (
    '<View><Image name="image" value="$image"/>'
    f'<RectangleLabels name="box" toName="image">{LABELS}</RectangleLabels></View>'
)
MASKS = CONFIG.replace("RectangleLabels", "BrushLabels")
STAR = "star, red"


def data_url(mark: int) -> str:
    return "data:image/png;base64," + base64.b64encode(picture(mark)).decode()


def tasks(*pictures: Any) -> list[dict[str, Any]]:
    return [{"id": 10 + i, "data": {"image": image}} for i, image in enumerate(pictures)]


async def post(served: Served, path: str, body: Any, **options: Any) -> httpx.Response:
    return await served.client.post(f"/label-studio{path}", json=body, **options)


async def predict(
    served: Served, *pictures: Any, config: str = CONFIG, base: str = ""
) -> list[LabelStudioPrediction]:
    """The results, held against their schema: one for each task."""
    response = await post(
        served, f"{base}/predict", {"tasks": tasks(*pictures), "label_config": config}
    )
    assert response.status_code == 200, response.text
    results = LabelStudioPredictions.model_validate(response.json()).results
    assert len(results) == len(pictures)
    return results


def code_of(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]


def labels_of(result: LabelStudioPrediction) -> list[str]:
    return [region.value["rectanglelabels"][0] for region in result.result]


# --- health and setup -----------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["", "/health", "/models/shapes", "/models/shapes/health"])
async def test_a_server_with_a_model_is_up(serve: Serve, path: str) -> None:
    response = await serve().client.get(f"/label-studio{path}")
    assert response.json() == {"status": "UP", "model_class": "FakeRCNN"}


async def test_a_server_without_a_model_is_not_up(serve: Serve) -> None:
    response = await serve(load=False).client.get("/label-studio/health")
    assert code_of(response) == (503, "not_ready")


async def test_setup_names_the_version(serve: Serve) -> None:
    body = {"project": "3.17", "schema": CONFIG, "hostname": "http://evil", "access_token": "t"}
    response = await post(serve(), "/setup", body)
    assert response.json() == {"model_version": "shapes@1"}


async def test_setup_says_in_the_log_what_has_no_label(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    await post(serve(), "/setup", {"project": 3, "schema": CONFIG})
    assert f"no label for {STAR}, 1;" in caplog.text


async def test_setup_before_there_is_a_config_is_taken(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    assert (await post(serve(), "/setup", {"schema": "<View></View>"})).status_code == 200
    assert "there is nothing to predict" in caplog.text


@pytest.mark.parametrize("path", ["/setup", "/predict"])
async def test_a_threshold_below_the_models_own_is_refused(serve: Serve, path: str) -> None:
    config = CONFIG.replace('name="box"', 'name="box" model_score_threshold="0.01"')
    body = {"schema": config, "label_config": config, "tasks": []}
    assert code_of(await post(serve(), path, body)) == (422, "score_threshold_too_low")


@pytest.mark.parametrize("path", ["/setup", "/predict"])
async def test_a_config_that_is_none_is_refused(serve: Serve, path: str) -> None:
    body = {"schema": "<View>", "label_config": "<View>", "tasks": []}
    assert code_of(await post(serve(), path, body)) == (422, "invalid_label_config")


# --- predict --------------------------------------------------------------------------------------


async def test_tasks_are_answered_in_their_order(serve: Serve) -> None:
    results = await predict(serve(), *(data_url(mark) for mark in (8, 16, 24)))
    tops = [result.result[0].value["y"] for result in results]
    assert tops == [3.125, 6.25, 9.375]
    for result in results:
        assert labels_of(result) == ["Disc", "Box"]
        assert result.score == pytest.approx(0.75)
        assert result.model_version == "shapes@1"


async def test_the_path_may_name_the_model(serve: Serve) -> None:
    served = serve()
    [result] = await predict(served, data_url(1), base="/models/shapes")
    assert len(result.result) == 2
    response = await post(served, "/models/cars/predict", {"tasks": [], "label_config": CONFIG})
    assert code_of(response) == (404, "unknown_model")


async def test_masks_are_computed_only_for_a_control_that_draws_them(serve: Serve) -> None:
    served = serve()
    [boxes] = await predict(served, data_url(1))
    [brushes] = await predict(served, data_url(1), config=MASKS)
    assert {region.type for region in boxes.result} == {"rectanglelabels"}
    assert {region.type for region in brushes.result} == {"brushlabels"}
    assert all(region.value["rle"] for region in brushes.result)


async def test_a_task_that_fails_has_an_empty_result_in_its_place_and_a_line_in_the_log(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    served = serve()
    served.detector.fail_on = {9}
    results = await predict(
        served, "/data/upload/a.png", data_url(1), "data:image/png;base64,AAAA", data_url(9),
        "https://pictures.example/a.png", None, data_url(2),
    )  # fmt: skip
    assert [len(result.result) for result in results] == [0, 2, 0, 0, 0, 0, 2]
    assert {result.model_version for result in results} == {"shapes@1"}
    for task in (10, 12, 13, 14, 15):
        assert f"Label Studio task {task} has no prediction" in caplog.text
    assert "task 11" not in caplog.text


async def test_a_task_without_data_fails_alone(serve: Serve) -> None:
    body = {"tasks": [{"id": 1}, {"data": "text"}, *tasks(data_url(1))], "label_config": CONFIG}
    results = (await post(serve(), "/predict", body)).json()["results"]
    assert [len(result["result"]) for result in results] == [0, 0, 2]


async def test_more_tasks_than_run_together_are_all_answered(serve: Serve) -> None:
    marks = range(1, 2 * TOGETHER + 2)
    results = await predict(serve(max_images=4), *map(data_url, marks))
    assert [result.result[0].value["y"] for result in results] == [
        round(mark * 0.125 / 32 * 100, 5) for mark in marks
    ]


async def test_each_picture_of_a_task_is_for_the_controls_on_it(serve: Serve) -> None:
    config = (
        '<View><Image name="a" value="$left"/><Image name="b" value="$right"/>'
        f'<RectangleLabels name="on_a" toName="a">{LABELS}</RectangleLabels>'
        f'<RectangleLabels name="on_b" toName="b">{LABELS}</RectangleLabels></View>'
    )
    task = {"id": 1, "data": {"left": data_url(8), "right": data_url(16)}}
    response = await post(serve(), "/predict", {"tasks": [task], "label_config": config})
    [result] = response.json()["results"]
    drawn = {(r["from_name"], r["to_name"], r["value"]["y"]) for r in result["result"]}
    assert drawn == {("on_a", "a", 3.125), ("on_b", "b", 6.25)}


async def test_a_project_without_a_control_of_ours_gets_empty_results(serve: Serve) -> None:
    served = serve()
    for config in ("", "<View></View>"):
        [result] = await predict(served, data_url(1), config=config)
        assert result.result == []
    assert served.detector.batches == []


async def test_no_tasks_are_no_results(serve: Serve) -> None:
    assert await predict(serve()) == []


async def test_instances_without_a_label_are_counted(serve: Serve) -> None:
    served = serve()
    await predict(served, data_url(1), data_url(2))
    assert served.metric("unlabelled_instances_total", model="shapes") == 2


async def test_pictures_of_label_studio_are_fetched_with_the_token(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, dict[str, str]]] = []

    async def fetch(url: str, limits: RemoteLimits, *, headers: dict[str, str]) -> bytes:
        assert limits.trusted_origins == {"http://label-studio:8080"}
        asked.append((url, headers))
        return picture(8)

    monkeypatch.setattr(images, "fetch", fetch)
    served = serve(label_studio_url="http://label-studio:8080", label_studio_token="secret")
    [result] = await predict(served, "/data/upload/a.png")
    assert result.result[0].value["y"] == 3.125
    assert asked == [
        ("http://label-studio:8080/data/upload/a.png", {"Authorization": "Token secret"})
    ]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ([], (400, "malformed_json")),
        ({"label_config": CONFIG}, (422, "invalid_option")),
        ({"tasks": "all", "label_config": CONFIG}, (422, "invalid_option")),
        ({"tasks": [7], "label_config": CONFIG}, (422, "invalid_option")),
        ({"tasks": [{}] * 1001, "label_config": CONFIG}, (422, "invalid_option")),
        ({"tasks": [], "label_config": " " * 1_000_001 + "<"}, (413, "label_config_too_large")),
    ],
)
async def test_a_bad_body_is_refused(serve: Serve, body: Any, expected: tuple[int, str]) -> None:
    assert code_of(await post(serve(), "/predict", body)) == expected


async def test_annotations_in_a_task_do_not_count_as_a_complex_body(serve: Serve) -> None:
    given = tasks(data_url(1))
    given[0]["annotations"] = [{"result": [{"value": {"rle": [0] * 150_000}}]}]
    response = await post(serve(), "/predict", {"tasks": given, "label_config": CONFIG})
    assert response.status_code == 200


# --- what refuses all of it -----------------------------------------------------------------------


async def test_a_model_that_fails_on_all_is_an_error_and_no_empty_prediction(serve: Serve) -> None:
    served = serve()
    served.detector.fail_on = {1, 2}
    body = {"tasks": tasks(data_url(1), data_url(2)), "label_config": CONFIG}
    assert code_of(await post(served, "/predict", body))[0] == 500


async def test_a_full_queue_refuses_all(serve: Serve) -> None:
    served = serve(max_queue=1)
    served.runtime.scheduler.reserve(1)
    body = {"tasks": tasks(data_url(1)), "label_config": CONFIG}
    assert code_of(await post(served, "/predict", body)) == (429, "queue_full")
    served.runtime.scheduler.unreserve(1)


async def test_when_time_is_up_before_the_first_task_all_are_refused(serve: Serve) -> None:
    served = serve(request_timeout_s=0.05)
    served.detector.go.clear()
    body = {"tasks": tasks(data_url(1), data_url(2)), "label_config": CONFIG}
    assert code_of(await post(served, "/predict", body)) == (504, "deadline_missed")


async def test_tasks_that_are_late_get_empty_results_behind_those_that_are_done(
    serve: Serve, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = serve()

    async def get(reference: object) -> bytes:
        if reference == "slow":
            raise TimeoutError  # as the limit on all of the tasks raises it here
        return picture(8)

    monkeypatch.setattr(served.runtime.task_images, "get", get)
    results = await predict(served, *["quick"] * TOGETHER, "slow", "slow")
    assert [len(result.result) for result in results] == [2] * TOGETHER + [0, 0]
    assert "2 of 10 tasks have no prediction" in caplog.text


# --- tokens and events ----------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/setup", "/predict", "/webhook"])
async def test_the_inference_token_is_the_password(serve: Serve, path: str) -> None:
    served = serve(inference_token="secret")
    body = {"schema": "", "label_config": "", "tasks": [], "action": "ANNOTATION_CREATED"}
    assert code_of(await post(served, path, body)) == (401, "token_required")
    assert code_of(await post(served, path, body, auth=("any", "wrong"))) == (401, "token_wrong")
    assert (await post(served, path, body, auth=("any", "secret"))).is_success


async def test_health_asks_for_the_token_too(serve: Serve) -> None:
    served = serve(inference_token="secret")
    assert (await served.client.get("/label-studio/health")).status_code == 401
    response = await served.client.get("/label-studio/health", auth=("", "secret"))
    assert response.status_code == 200


@pytest.mark.parametrize(
    "action", ["ANNOTATION_CREATED", "ANNOTATION_UPDATED", "ANNOTATION_DELETED"]
)
@pytest.mark.parametrize("base", ["", "/models/shapes"])
async def test_events_of_annotations_are_taken(serve: Serve, action: str, base: str) -> None:
    body = {"action": action, "project": {}, "task": {}, "annotation": {}}
    response = await post(serve(), f"{base}/webhook", body)
    assert (response.status_code, response.json()) == (201, {"result": None, "status": "ok"})


@pytest.mark.parametrize(
    "action", ["PROJECT_UPDATED", "ANNOTATIONS_CREATED", "annotation_created", ""]
)
async def test_events_that_the_protocol_does_not_know_are_told_so(
    serve: Serve, action: str
) -> None:
    response = await post(serve(), "/webhook", {"action": action, "project": {}})
    assert (response.status_code, response.json()) == (200, {"status": "Unknown event"})


async def test_start_training_is_for_admins_and_not_offered(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="service.audit")
    served = serve(admin_token="admin", inference_token="secret")
    body = {"action": "START_TRAINING", "project": {"id": 1}}
    response = await post(served, "/webhook", body, auth=("any", "secret"))
    assert code_of(response) == (401, "admin_token_wrong")
    response = await post(served, "/webhook", body, auth=("any", "admin"))
    assert code_of(response) == (501, "training_not_offered")
    assert "detserve train" in response.text
    assert "/reload" in response.text
    assert "action=start_training" in caplog.text


async def test_a_web_page_cannot_start_training(serve: Serve) -> None:
    headers = {"Origin": "http://evil.example"}
    response = await post(serve(), "/webhook", {"action": "START_TRAINING"}, headers=headers)
    assert code_of(response) == (403, "admin_forbidden")


async def test_an_event_without_an_action_is_refused(serve: Serve) -> None:
    assert code_of(await post(serve(), "/webhook", {})) == (422, "invalid_option")


async def test_a_model_that_finds_no_instances_draws_nothing(serve: Serve) -> None:
    served = serve(FakeDetector(class_names=("cat",), task="object_detection"))
    served.detector.answers = lambda found: [instances[:0] for instances in found]
    [result] = await predict(served, data_url(1), config=MASKS)
    assert (result.result, result.score) == ([], 0)

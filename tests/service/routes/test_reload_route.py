"""POST /reload and GET /reload/{id}: codes, paths, and who may."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest
from fake_detector import FakeDetector
from fake_server import Serve, Served

from models.errors import CheckpointError, PathNotAllowedError
from service.schemas.answers import ErrorAnswer, ReloadAnswer

pytestmark = pytest.mark.anyio


async def reload(served: Served, **body: Any) -> httpx.Response:
    return await served.client.post("/reload", json=body)


def answer_of(response: httpx.Response, status: int = 200) -> ReloadAnswer:
    assert response.status_code == status, response.text
    return ReloadAnswer.model_validate(response.json())


def error_of(response: httpx.Response, status: int) -> Any:
    assert response.status_code == status, response.text
    return ErrorAnswer.model_validate(response.json()).error


def client_of(served: Served, host: str, **headers: str) -> httpx.AsyncClient:
    """A client at another address."""
    transport = httpx.ASGITransport(served.app, client=(host, 40000))
    return httpx.AsyncClient(transport=transport, base_url="http://localhost", headers=headers)


# --- success --------------------------------------------------------------------------------------


async def test_a_reload_waits_and_reports(serve: Serve) -> None:
    served = serve()
    answer = answer_of(await reload(served))
    assert (answer.model, answer.state, answer.phase) == ("shapes", "succeeded", "done")
    assert (answer.previous_version, answer.version) == ("1", "2")
    assert answer.freed_bytes == 1001
    assert set(answer.phases_s) == {"load", "validate", "drain"}
    assert answer.load_report == {"missing": []}
    assert served.metric("model_reloads_total", model="shapes", outcome="swapped") == 1


async def test_without_a_body_the_same_files_are_loaded_again(serve: Serve) -> None:
    served = serve()
    response = await served.client.post("/reload", headers={"Content-Type": "application/json"})
    answer_of(response)
    assert served.loader.sources[1] == served.loader.sources[0]


async def test_other_weights_keep_config_and_labels(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "v2").mkdir()
    served = serve(labels=tmp_path / "names.txt")
    answer_of(await reload(served, weights="v2/model_final.pth"))
    first, second = served.loader.sources
    assert second.weights == tmp_path.resolve() / "v2" / "model_final.pth"
    assert (second.config, second.labels) == (first.config, first.labels)


async def test_another_config_is_confined_to_the_root_and_brings_its_own_labels(
    serve: Serve, tmp_path: Path
) -> None:
    served = serve(labels=tmp_path / "names.txt")
    answer_of(await reload(served, config="v2/config.yaml", weights="v2/model_final.pth"))
    source = served.loader.sources[1]
    assert source.config == tmp_path.resolve() / "v2" / "config.yaml"
    assert source.labels is None
    assert source.root == tmp_path.resolve()


async def test_labels_can_be_named(serve: Serve, tmp_path: Path) -> None:
    served = serve()
    answer_of(await reload(served, labels="new.txt"))
    assert served.loader.sources[1].labels == tmp_path.resolve() / "new.txt"


async def test_an_absolute_path_under_the_root_is_taken(serve: Serve, tmp_path: Path) -> None:
    answer_of(await reload(serve(), weights=str(tmp_path / "v2.pth")))


async def test_the_root_can_be_set(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    served = serve(model_root=tmp_path / "models")
    answer_of(await reload(served, weights="v2.pth"))
    assert served.loader.sources[1].weights == tmp_path.resolve() / "models" / "v2.pth"
    assert error_of(await reload(served, weights="../v2.pth"), 403).code == "path_outside_root"


async def test_wait_false_is_202_and_the_job_tells_how_it_goes(serve: Serve) -> None:
    served = serve()
    served.loader.go.clear()
    begun = answer_of(await reload(served, wait=False), 202)
    assert (begun.state, begun.version) == ("running", None)
    path = f"/reload/{begun.id}"
    running = answer_of(await served.client.get(path))
    assert (running.state, running.phase) == ("running", "load")
    served.loader.go.set()
    job = served.runtime.repository.job(begun.id)
    assert await asyncio.to_thread(job.finished.wait, 20)
    done = answer_of(await served.client.get(path))
    assert (done.state, done.version) == ("succeeded", "2")


# --- refusals -------------------------------------------------------------------------------------


async def test_a_refused_model_is_422_and_the_old_version_serves_on(serve: Serve) -> None:
    served = serve()
    served.loader.error = CheckpointError("3 classes, not 4.", classes=3)
    error = error_of(await reload(served), 422)
    assert (error.code, error.message) == ("model_refused", "3 classes, not 4.")
    assert error.details["classes"] == 3
    assert error.details["serving_version"] == "1"
    failed = answer_of(await served.client.get(f"/reload/{error.details['reload']}"))
    assert failed.state == "failed"
    assert failed.error is not None
    assert failed.error.code == "model_refused"
    assert (await served.client.get("/models/shapes")).json()["version"] == "1"
    assert served.metric("model_reloads_total", model="shapes", outcome="load_failed") == 1


async def test_a_model_that_fails_its_self_check_is_422(serve: Serve) -> None:
    served = serve()
    broken = FakeDetector(2)
    broken.fail_on = set(range(256))
    served.loader.ready = [broken]
    assert "self-check" in error_of(await reload(served), 422).message
    outcome = {"outcome": "validation_failed"}
    assert served.metric("model_reloads_total", model="shapes", **outcome) == 1


async def test_a_second_reload_meanwhile_is_409(serve: Serve) -> None:
    served = serve()
    served.loader.go.clear()
    first = answer_of(await reload(served, wait=False), 202)
    assert error_of(await reload(served), 409).code == "reload_running"
    served.loader.go.set()
    job = served.runtime.repository.job(first.id)
    assert await asyncio.to_thread(job.finished.wait, 20)
    answer_of(await reload(served))


async def test_an_unknown_model_is_404(serve: Serve) -> None:
    assert error_of(await reload(serve(), model="car"), 404).code == "unknown_model"


async def test_an_unknown_job_is_404(serve: Serve) -> None:
    response = await serve().client.get("/reload/nope")
    assert error_of(response, 404).code == "unknown_reload"


@pytest.mark.parametrize(
    ("body", "option"),
    [
        ({"weigths": "v2.pth"}, "weigths"),
        ({"weights": ""}, "weights"),
        ({"weights": 3}, "weights"),
        ({"weights": "x" * 5000}, "weights"),
        ({"wait": "perhaps"}, "wait"),
    ],
)
async def test_a_bad_key_or_value_is_422_with_those_that_there_are(
    serve: Serve, body: dict[str, Any], option: str
) -> None:
    served = serve()
    error = error_of(await reload(served, **body), 422)
    assert (error.code, error.details) == ("invalid_option", {"option": option})
    assert "model, weights, config, labels, wait" in error.message
    assert len(served.loader.sources) == 1


@pytest.mark.parametrize("body", [b"{", b"[]", b"\xff"])
async def test_what_is_no_json_object_is_400(serve: Serve, body: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    response = await serve().client.post("/reload", content=body, headers=headers)
    assert error_of(response, 400).code == "malformed_json"


async def test_a_large_body_is_413(serve: Serve) -> None:
    headers = {"Content-Type": "application/json"}
    response = await serve().client.post("/reload", content=b" " * 70_000, headers=headers)
    assert error_of(response, 413).code == "body_too_large"


# --- paths ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["weights", "config", "labels"])
@pytest.mark.parametrize(
    "path", ["../other.pth", "/etc/passwd", "link/other.pth", "link.pth", "a/../../x", "x\0y"]
)
async def test_a_path_outside_of_the_root_is_403_and_nothing_is_loaded(
    serve: Serve, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, key: str, path: str
) -> None:
    outside = tmp_path_factory.mktemp("outside")
    (outside / "other.pth").touch()
    (tmp_path / "link").symlink_to(outside)
    (tmp_path / "link.pth").symlink_to(outside / "other.pth")
    served = serve()
    assert error_of(await reload(served, **{key: path}), 403).code == "path_outside_root"
    assert len(served.loader.sources) == 1


async def test_a_base_outside_of_the_root_is_403(serve: Serve) -> None:
    served = serve()
    served.loader.error = PathNotAllowedError("_BASE_ leaves the folder.")
    assert error_of(await reload(served, config="config.yaml"), 403).code == "path_outside_root"


# --- who may --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "path"), [("POST", "/reload"), ("GET", "/reload/x")])
async def test_without_a_token_other_machines_are_403(serve: Serve, method: str, path: str) -> None:
    async with client_of(serve(), "203.0.113.9") as client:
        response = await client.request(method, path, json={} if method == "POST" else None)
    assert error_of(response, 403).code == "admin_forbidden"


async def test_a_form_of_a_web_page_is_403(serve: Serve) -> None:
    served = serve()
    response = await served.client.post("/reload", data={"weights": "v2.pth"})
    assert error_of(response, 403).code == "admin_forbidden"
    assert len(served.loader.sources) == 1


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, "admin_token_required"),
        ({"Authorization": "Bearer wrong"}, "admin_token_wrong"),
    ],
)
async def test_no_or_a_wrong_token_is_401_on_this_machine_too(
    serve: Serve, headers: dict[str, str], code: str
) -> None:
    served = serve(admin_token="s3cret")
    response = await served.client.post("/reload", json={}, headers=headers)
    assert error_of(response, 401).code == code
    assert "www-authenticate" in response.headers


async def test_the_token_opens_from_anywhere(serve: Serve) -> None:
    served = serve(admin_token="s3cret")
    async with client_of(served, "203.0.113.9", Authorization="Bearer s3cret") as client:
        job = answer_of(await client.post("/reload", json={}))
        answer_of(await client.get(f"/reload/{job.id}"))


async def test_who_may_not_learns_nothing_of_what_there_is(serve: Serve) -> None:
    async with client_of(serve(), "203.0.113.9") as client:
        for body in ({"model": "car"}, {"weights": "../x"}, {"nope": 1}):
            assert (await client.post("/reload", json=body)).status_code == 403

"""POST /reload and GET /reload/{id}: codes, paths, and who may."""

import asyncio
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from fake_detector import FakeDetector
from fake_repository import FolderLoader
from fake_server import Serve, Served
from http_checks import error_of, job_of, until

from models.errors import CheckpointError, PathNotAllowedError

pytestmark = pytest.mark.anyio


async def reload(served: Served, **body: Any) -> httpx.Response:
    return await served.client.post("/reload", json=body)


def weights_at(root: Path, path: str) -> None:
    """A weights file, as one must be there to be loaded."""
    (root / path).parent.mkdir(exist_ok=True)
    (root / path).write_text("made up")


def client_of(served: Served, host: str, **headers: str) -> httpx.AsyncClient:
    """A client at another address."""
    transport = httpx.ASGITransport(served.app, client=(host, 40000))
    return httpx.AsyncClient(transport=transport, base_url="http://localhost", headers=headers)


# --- success --------------------------------------------------------------------------------------


async def test_a_reload_waits_and_reports(serve: Serve) -> None:
    served = serve()
    answer = job_of(await reload(served))
    assert (answer.model, answer.state, answer.phase) == ("shapes", "succeeded", "done")
    assert (answer.previous_version, answer.version) == ("1", "2")
    assert answer.freed_bytes == 1001
    assert (answer.action, answer.outcome, answer.candidate) == ("reload", "swapped", "2")
    assert set(answer.phases_s) == {"preflight", "load", "check", "warm_up", "swap", "drain"}
    assert answer.load_report == {"missing": []}
    assert served.metric("model_reloads_total", model="shapes", outcome="swapped") == 1


async def test_without_a_body_the_same_files_are_loaded_again(serve: Serve) -> None:
    served = serve()
    response = await served.client.post("/reload", headers={"Content-Type": "application/json"})
    job_of(response)
    assert served.loader.sources[1] == served.loader.sources[0]


async def test_other_weights_keep_config_and_labels(serve: Serve, tmp_path: Path) -> None:
    weights_at(tmp_path, "v2/model_final.pth")
    served = serve(labels=tmp_path / "names.txt")
    job_of(await reload(served, weights="v2/model_final.pth"))
    first, second = served.loader.sources
    assert second.weights == tmp_path.resolve() / "v2" / "model_final.pth"
    assert (second.config, second.labels) == (first.config, first.labels)


async def test_another_config_is_confined_to_the_root_and_brings_its_own_labels(
    serve: Serve, tmp_path: Path
) -> None:
    weights_at(tmp_path, "v2/model_final.pth")
    served = serve(labels=tmp_path / "names.txt")
    job_of(await reload(served, config="v2/config.yaml", weights="v2/model_final.pth"))
    source = served.loader.sources[1]
    assert source.config == tmp_path.resolve() / "v2" / "config.yaml"
    assert source.labels is None
    assert source.root == tmp_path.resolve()


async def test_labels_can_be_named(serve: Serve, tmp_path: Path) -> None:
    served = serve()
    job_of(await reload(served, labels="new.txt"))
    assert served.loader.sources[1].labels == tmp_path.resolve() / "new.txt"


async def test_an_absolute_path_under_the_root_is_taken(serve: Serve, tmp_path: Path) -> None:
    weights_at(tmp_path, "v2.pth")
    job_of(await reload(serve(), weights=str(tmp_path / "v2.pth")))


async def test_the_root_can_be_set(serve: Serve, tmp_path: Path) -> None:
    weights_at(tmp_path, "models/v2.pth")
    served = serve(model_root=tmp_path / "models")
    job_of(await reload(served, weights="v2.pth"))
    assert served.loader.sources[1].weights == tmp_path.resolve() / "models" / "v2.pth"
    assert error_of(await reload(served, weights="../v2.pth"), 403).code == "path_outside_root"


async def test_wait_false_is_202_and_the_job_tells_how_it_goes(serve: Serve) -> None:
    served = serve()
    served.loader.go.clear()
    begun = job_of(await reload(served, wait=False), 202)
    assert (begun.state, begun.version) == ("running", None)
    job, path = served.runtime.repository.jobs.get(begun.id), f"/reload/{begun.id}"
    await until(lambda: job.phase == "load")
    running = job_of(await served.client.get(path))
    assert (running.state, running.phase) == ("running", "load")
    served.loader.go.set()
    assert await asyncio.to_thread(job.finished.wait, 20)
    done = job_of(await served.client.get(path))
    assert (done.state, done.version) == ("succeeded", "2")


# --- files that were loaded before ----------------------------------------------------------------


async def on_files(serve: Serve, tmp_path: Path) -> Served:
    """a.pth was version 1, b.pth is version 2; their detectors have the numbers 7 and 8."""
    for name, number in (("a.pth", "7"), ("b.pth", "8")):
        (tmp_path / name).write_text(number)
    served = serve(loader=FolderLoader(), weights=tmp_path / "a.pth")
    assert job_of(await reload(served, weights="b.pth")).version == "2"
    return served


@pytest.mark.parametrize("version", ["1", 1, "previous"])
async def test_files_that_were_loaded_before_are_a_version_to_go_back_to(
    serve: Serve, tmp_path: Path, version: Any
) -> None:
    served = await on_files(serve, tmp_path)
    answer = job_of(await reload(served, version=version))
    assert (answer.outcome, answer.previous_version, answer.version) == ("swapped", "2", "1")
    assert served.detector.number == 7
    # The next files get a number of their own.
    assert job_of(await reload(served, weights="b.pth")).version == "3"


async def test_files_that_were_overwritten_since_are_no_longer_that_version(
    serve: Serve, tmp_path: Path
) -> None:
    served = await on_files(serve, tmp_path)
    (tmp_path / "a.pth").write_text("9")
    error = error_of(await reload(served, version="1"), 422)
    assert (error.code, error.details["version"]) == ("file_changed", "1")
    assert error.details["serving_version"] == "2"
    # Named as files they are a new one.
    assert job_of(await reload(served, weights="a.pth")).version == "3"
    assert served.detector.number == 9


async def test_a_version_that_was_never_loaded_is_404(serve: Serve, tmp_path: Path) -> None:
    served = await on_files(serve, tmp_path)
    error = error_of(await reload(served, version="3"), 404)
    assert error.code == "unknown_version"
    assert "1, 2" in error.message


async def test_a_version_brings_its_own_files(serve: Serve, tmp_path: Path) -> None:
    served = await on_files(serve, tmp_path)
    error = error_of(await reload(served, version="1", weights="b.pth"), 422)
    assert (error.code, error.details) == ("invalid_option", {"option": "version"})


async def test_a_dry_run_of_files_uses_no_number_up(serve: Serve, tmp_path: Path) -> None:
    served = await on_files(serve, tmp_path)
    answer = job_of(await reload(served, weights="a.pth", dry_run=True))
    assert (answer.outcome, answer.candidate, answer.version) == ("dry_run", "3", None)
    assert error_of(await reload(served, version="3"), 404).code == "unknown_version"
    assert job_of(await reload(served, weights="a.pth")).version == "3"


# --- refusals -------------------------------------------------------------------------------------


async def test_a_refused_model_is_422_and_the_old_version_serves_on(serve: Serve) -> None:
    served = serve()
    served.loader.error = CheckpointError("3 classes, not 4.", classes=3)
    error = error_of(await reload(served), 422)
    assert (error.code, error.message) == ("model_refused", "3 classes, not 4.")
    assert error.details["classes"] == 3
    assert error.details["serving_version"] == "1"
    failed = job_of(await served.client.get(f"/reload/{error.details['reload']}"))
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
    first = job_of(await reload(served, wait=False), 202)
    assert error_of(await reload(served), 409).code == "reload_running"
    served.loader.go.set()
    job = served.runtime.repository.jobs.get(first.id)
    assert await asyncio.to_thread(job.finished.wait, 20)
    job_of(await reload(served))


@pytest.mark.parametrize(
    ("content", "code"), [(None, "file_missing"), ("", "empty_file")], ids=["missing", "empty"]
)
async def test_weights_that_are_not_there_are_422_before_anybody_loads_them(
    serve: Serve, tmp_path: Path, content: str | None, code: str
) -> None:
    served = serve()
    if content is not None:
        (tmp_path / "v2.pth").write_text(content)
    error = error_of(await reload(served, weights="v2.pth"), 422)
    assert (error.code, error.details["serving_version"]) == (code, "1")
    assert len(served.loader.sources) == 1
    outcome = {"outcome": "preflight_failed"}
    assert served.metric("model_reloads_total", model="shapes", **outcome) == 1


async def test_no_url_is_fetched(serve: Serve) -> None:
    served = serve()
    for key in ("weights", "config", "labels"):
        error = error_of(await reload(served, **{key: "https://example.com/v2.pth"}), 422)
        assert error.code == "url_not_allowed"
    assert len(served.loader.sources) == 1


async def test_a_server_that_drains_begins_no_reload(serve: Serve) -> None:
    served = serve()
    served.runtime.draining = True
    assert error_of(await reload(served), 503).code == "draining"
    assert len(served.loader.sources) == 1


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
    for known in ("model", "version", "weights", "config", "labels", "wait", "dry_run", "gate"):
        assert re.search(rf"takes .*\b{known}\b", error.message)
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
        job = job_of(await client.post("/reload", json={}))
        job_of(await client.get(f"/reload/{job.id}"))


async def test_who_may_not_learns_nothing_of_what_there_is(serve: Serve) -> None:
    async with client_of(serve(), "203.0.113.9") as client:
        for body in ({"model": "car"}, {"weights": "../x"}, {"nope": 1}):
            assert (await client.post("/reload", json=body)).status_code == 403

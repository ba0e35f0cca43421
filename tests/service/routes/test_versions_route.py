"""/models/{m}/versions/{v}: what is told of versions, and what is done to those beside the current one."""

import hashlib
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from fake_repository import FolderLoader, make_version
from fake_server import Serve, Served
from http_checks import (
    answered_by,
    detector_of,
    error_of,
    job_of,
    model_at,
    post,
    predict,
    record_at,
    until,
    version_at,
)

from service.repository import retiring
from service.repository.disk.folder import RepositoryFolder
from service.repository.disk.manifest import Manifest
from service.repository.version import ModelVersion, RequestLease
from service.schemas.answers import VersionAnswer

pytestmark = pytest.mark.anyio

VERSIONS = "/models/shapes/versions"
ALIASES = "/models/shapes/aliases"


@pytest.fixture
def served(serve: Serve, tmp_path: Path) -> Served:
    """Versions 1, 2 and 3 of shapes; 3 is current, 4 is still being copied."""
    for label in "123":
        make_version(tmp_path, label)
    make_version(tmp_path, "4", sealed=False)
    return serve(loader=FolderLoader(), repository=tmp_path)


async def load(served: Served, version: str, **body: Any) -> httpx.Response:
    return await post(served, f"{VERSIONS}/{version}/load", **body)


async def unload(served: Served, version: str) -> httpx.Response:
    return await post(served, f"{VERSIONS}/{version}/unload")


async def alias(served: Served, name: str, version: Any, **body: Any) -> httpx.Response:
    return await served.client.put(f"{ALIASES}/{name}", json={"version": version} | body)


async def remove(served: Served, version: str) -> httpx.Response:
    return await served.client.delete(f"{VERSIONS}/{version}")


# --- what is told ---------------------------------------------------------------------------------


async def test_a_model_lists_its_versions_in_order_with_where_each_stands(served: Served) -> None:
    make_version(served.root, "10")
    job_of(await alias(served, "stable", "1"))
    job_of(await post(served, "/reload", version="2"))
    model = await model_at(served)
    assert (model.version, model.previous, model.aliases) == ("2", "3", {"stable": "1"})
    assert [(v.version, v.state, v.current, v.aliases) for v in model.versions] == [
        ("1", "ready", False, ["stable"]),
        ("2", "ready", True, []),
        ("3", "available", False, []),
        ("4", "incomplete", False, []),
        ("10", "available", False, []),
    ]


async def test_without_a_repository_a_model_lists_what_was_loaded(serve: Serve) -> None:
    served = serve()
    job_of(await post(served, "/reload"))
    model = await model_at(served)
    assert (model.version, model.previous, model.aliases) == ("2", "1", {})
    assert [(v.version, v.state, v.current) for v in model.versions] == [
        ("1", "available", False),
        ("2", "ready", True),
    ]
    version = await version_at(served, "1")
    assert (version.manifest, version.size_bytes, version.memory_bytes) == (None, None, None)


async def test_a_loaded_version_tells_its_hashes_its_memory_and_what_it_served(
    served: Served,
) -> None:
    for _ in range(2):
        await predict(served)
    version = await version_at(served, "3")
    folder = RepositoryFolder(served.root).model("shapes").version("3")
    assert (version.model, version.version, version.state) == ("shapes", "3", "ready")
    assert (version.current, version.reason) == (True, None)
    assert version.sha256 == hashlib.sha256(b"3").hexdigest()
    assert (version.manifest, version.size_bytes) == (folder.manifest().digest, folder.size_bytes)
    assert version.memory_bytes == 0  # the fake has none
    assert datetime.fromisoformat(version.loaded_at or "") <= datetime.now(UTC)
    assert version.requests_in_progress == 0
    assert version.statistics is not None
    assert (version.statistics["requests"], version.statistics["images"]) == (2, 2)
    assert [batch["size"] for batch in version.statistics["batches"]] == [1]


async def test_a_version_that_is_not_loaded_tells_what_its_files_are(served: Served) -> None:
    version = await version_at(served, "1")
    assert (version.state, version.current, version.reason) == ("available", False, None)
    assert version.sha256 == hashlib.sha256(b"1").hexdigest()
    assert version.size_bytes == len("made up") + 1
    for unknown in ("memory_bytes", "loaded_at", "requests_in_progress", "statistics"):
        assert getattr(version, unknown) is None


async def test_a_version_that_is_still_being_copied_says_so(served: Served) -> None:
    version = await version_at(served, "4")
    assert version.state == "incomplete"
    assert "manifest.json" in (version.reason or "")
    assert (version.sha256, version.manifest) == (None, None)


async def test_a_version_whose_files_were_damaged_since_it_was_loaded_says_so(
    served: Served,
) -> None:
    job_of(await load(served, "1"))
    assert (await unload(served, "1")).status_code == 200
    (served.root / "shapes" / "1" / "model_final.pth").write_text("longer")
    version = await version_at(served, "1")
    assert version.state == "incomplete"
    assert "model_final.pth" in (version.reason or "")


async def test_a_version_that_failed_tells_why_until_it_is_loaded(served: Served) -> None:
    folder = served.root / "shapes" / "4"
    (folder / "model_final.pth").write_text("no checkpoint")
    Manifest.of(folder).write(folder)
    error = error_of(await load(served, "4"), 422)
    version = await version_at(served, "4")
    assert (version.state, version.reason) == ("failed", error.message)
    (folder / "model_final.pth").write_text("4")
    (folder / "manifest.json").unlink()
    Manifest.of(folder).write(folder)
    job_of(await load(served, "4"))
    version = await version_at(served, "4")
    assert (version.state, version.reason) == ("ready", None)


@pytest.mark.parametrize(
    ("word", "label"), [("latest", "3"), ("current", "2"), ("previous", "3"), ("stable", "1")]
)
async def test_a_version_is_found_by_an_alias_and_by_the_words_for_it(
    served: Served, word: str, label: str
) -> None:
    job_of(await alias(served, "stable", "1"))
    job_of(await post(served, "/reload", version="2"))
    assert (await version_at(served, word)).version == label


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        (f"{VERSIONS}/7", 404, "unknown_version"),
        (f"{VERSIONS}/previous", 404, "unknown_version"),
        (f"{VERSIONS}/.hidden", 422, "invalid_name"),
        ("/models/car/versions/1", 404, "unknown_model"),
    ],
)
async def test_what_there_is_not_is_refused(
    served: Served, path: str, status: int, code: str
) -> None:
    assert error_of(await served.client.get(path), status).code == code


# --- load -----------------------------------------------------------------------------------------


async def test_a_version_is_loaded_beside_the_current_one(served: Served) -> None:
    job = job_of(await load(served, "1"))
    assert (job.action, job.outcome, job.version) == ("load", "loaded", "1")
    assert (job.previous_version, job.freed_bytes) == ("3", None)
    assert set(job.phases_s) == {"preflight", "load", "check", "warm_up"}
    assert answered_by(await predict(served)) == ("3", 3)
    assert answered_by(await predict(served, version="1")) == ("1", 1)
    assert record_at(served.root).current == "3"
    ready = {"model": "shapes", "version": "1"}
    assert (served.metric("model_ready", **ready), served.metric("model_current", **ready)) == (
        1,
        0,
    )
    assert served.metric("model_reloads_total", model="shapes", outcome="loaded") == 1


async def test_a_version_that_is_loaded_already_is_unchanged(served: Served) -> None:
    job_of(await load(served, "1"))
    assert job_of(await load(served, "1")).outcome == "unchanged"
    assert job_of(await load(served, "3")).outcome == "unchanged"
    assert len(served.loader.loaded) == 2


async def test_other_classes_are_no_reason_not_to_try_a_version_beside(served: Served) -> None:
    make_version(served.root, "5", labels=("star", "disc", "square"))
    job_of(await load(served, "5"))
    assert answered_by(await predict(served, version="5")) == ("5", 5)


async def test_a_load_may_be_tried_only(served: Served) -> None:
    job = job_of(await load(served, "1", dry_run=True))
    assert (job.outcome, job.version) == ("dry_run", None)
    assert detector_of(served, 1).closed == 1
    assert error_of(await predict(served, version="1"), 409).code == "version_not_loaded"


@pytest.mark.parametrize(
    ("version", "status", "code"),
    [("7", 404, "unknown_version"), ("4", 422, "version_incomplete"), (".x", 422, "invalid_name")],
)
async def test_a_version_that_cannot_be_loaded_is_refused(
    served: Served, version: str, status: int, code: str
) -> None:
    assert error_of(await load(served, version), status).code == code
    assert len(served.loader.sources) == 1


async def test_a_version_that_proves_bad_is_refused_and_the_current_one_serves_on(
    served: Served,
) -> None:
    (served.root / "shapes" / "1" / "model_final.pth").write_text("7")
    error = error_of(await load(served, "1"), 422)
    assert (error.code, error.details["serving_version"]) == ("file_changed", "3")
    assert answered_by(await predict(served)) == ("3", 3)


# --- unload ---------------------------------------------------------------------------------------


async def test_an_unloaded_version_is_on_disk_alone(served: Served) -> None:
    job_of(await load(served, "1"))
    response = await unload(served, "1")
    assert response.status_code == 200
    version = VersionAnswer.model_validate(response.json())
    assert (version.version, version.state, version.memory_bytes) == ("1", "available", None)
    assert detector_of(served, 1).closed == 1
    assert served.metric("model_ready", model="shapes", version="1") is None
    assert error_of(await predict(served, version="1"), 409).code == "version_not_loaded"


async def test_a_version_that_is_current_or_has_an_alias_is_not_unloaded(served: Served) -> None:
    job_of(await alias(served, "stable", "1"))
    for word in ("3", "current", "1", "stable"):
        assert error_of(await unload(served, word), 409).code == "version_in_use"
    assert [detector.closed for detector in served.loader.loaded] == [0, 0]
    assert (await served.client.delete(f"{ALIASES}/stable")).status_code == 204
    assert (await unload(served, "1")).status_code == 200


async def test_what_is_not_loaded_cannot_be_unloaded(served: Served) -> None:
    assert error_of(await unload(served, "1"), 409).code == "version_not_loaded"
    assert error_of(await unload(served, "7"), 404).code == "unknown_version"


# --- remove ---------------------------------------------------------------------------------------


async def test_a_version_is_removed_from_disk(served: Served) -> None:
    response = await remove(served, "1")
    assert (response.status_code, response.content) == (204, b"")
    assert not (served.root / "shapes" / "1").exists()
    assert [v.version for v in (await model_at(served)).versions] == ["2", "3", "4"]
    assert error_of(await remove(served, "1"), 404).code == "unknown_version"


async def test_a_loaded_version_is_unloaded_before_it_is_removed(served: Served) -> None:
    job_of(await load(served, "1"))
    assert (await remove(served, "1")).status_code == 204
    assert detector_of(served, 1).closed == 1
    assert error_of(await predict(served, version="1"), 404).code == "unknown_version"


async def test_a_version_kept_in_memory_is_let_go_when_it_is_removed(
    serve: Serve, tmp_path: Path
) -> None:
    for label in "12":
        make_version(tmp_path, label)
    served = serve(loader=FolderLoader(), repository=tmp_path, keep_previous="memory")
    job_of(await post(served, "/reload", version="1"))
    assert (await remove(served, "2")).status_code == 204
    assert detector_of(served, 2).closed == 1
    error = error_of(await post(served, "/models/shapes/rollback"), 409)
    assert error.code == "no_previous_version"


async def test_only_the_last_version_is_told_to_be_kept_in_memory(
    serve: Serve, tmp_path: Path
) -> None:
    for label in "123":
        make_version(tmp_path, label)
    served = serve(loader=FolderLoader(), repository=tmp_path, keep_previous="memory")
    for label in "12":
        job_of(await post(served, "/reload", version=label))
    versions = [await version_at(served, label) for label in "123"]
    assert [version.state for version in versions] == ["available", "ready", "available"]
    assert [version.reason for version in versions] == ["kept in host memory", None, None]
    assert [detector_of(served, number).closed for number in (1, 2, 3)] == [0, 0, 1]


async def test_a_version_that_is_needed_is_not_removed(served: Served) -> None:
    job_of(await alias(served, "stable", "1"))
    for label in ("1", "3"):
        assert error_of(await remove(served, label), 409).code == "version_in_use"
        assert (served.root / "shapes" / label / "model_final.pth").exists()
        assert answered_by(await predict(served, version=label)) == (label, int(label))


@pytest.mark.parametrize("name", ["latest", "current", ".x", "..%2f1"])
async def test_only_a_version_that_is_named_is_removed(served: Served, name: str) -> None:
    response = await remove(served, name)
    assert response.status_code in (404, 422)
    assert {path.name for path in (served.root / "shapes").iterdir()} >= {"1", "2", "3", "4"}


async def test_without_a_repository_nothing_is_removed(serve: Serve) -> None:
    served = serve()
    job_of(await post(served, "/reload"))
    assert error_of(await remove(served, "1"), 422).code == "no_repository"


# --- a version that drains while it is loaded again -----------------------------------------------


async def test_a_version_that_comes_back_while_it_drains_is_not_closed_with_its_past(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retiring, "DRAIN_TIMEOUT_S", 0.01)
    told = threading.Event()
    metrics = served.runtime.metrics
    version_closed = metrics.version_closed

    def closed(version: ModelVersion) -> None:
        version_closed(version)
        if version.label == "3":
            told.set()

    monkeypatch.setattr(metrics, "version_closed", closed)
    lease = RequestLease()
    lease.bind(served.runtime.repository.get().current)
    old = detector_of(served, 3)
    job = job_of(await post(served, "/reload", version="1"))
    assert "still had requests" in (job.warning or "")
    assert (await version_at(served, "3")).state == "draining"
    job_of(await post(served, "/reload", version="3"))
    assert old.closed == 0
    lease.end()
    await until(told.is_set)
    assert old.closed == 1
    assert (await version_at(served, "3")).state == "ready"
    assert served.metric("model_ready", model="shapes", version="3") == 1
    assert answered_by(await predict(served)) == ("3", 3)

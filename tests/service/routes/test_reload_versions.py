"""POST /reload in a model repository: by version, what the record says, and what is refused."""

from pathlib import Path
from typing import Any

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

from service.repository.disk.changing import promote
from service.repository.disk.folder import RepositoryFolder
from service.repository.disk.manifest import Manifest
from service.repository.version import VersionState

pytestmark = pytest.mark.anyio

NAMES = ("disc", "square", "star", "ring")
SWAPPED = ("star", "square", "disc", "ring")


@pytest.fixture
def served(serve: Serve, tmp_path: Path) -> Served:
    """Versions 1, 2 and 3 of shapes; 3 is current."""
    for label in "123":
        make_version(tmp_path, label)
    return serve(loader=FolderLoader(), repository=tmp_path)


async def reload(served: Served, **body: Any) -> Any:
    return await post(served, "/reload", **body)


async def require_untouched(served: Served, label: str = "3") -> None:
    """``label`` is current as ever, in memory and on disk."""
    assert answered_by(await predict(served)) == (label, int(label))
    assert record_at(served.root).current == label
    assert (await model_at(served)).state == "ready"


# --- by version -----------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["1", 1])
async def test_a_version_is_swapped_in_and_recorded(served: Served, version: Any) -> None:
    job = job_of(await reload(served, version=version))
    assert (job.outcome, job.previous_version, job.version) == ("swapped", "3", "1")
    assert set(job.phases_s) == {"preflight", "load", "check", "warm_up", "swap", "drain"}
    assert answered_by(await predict(served)) == ("1", 1)
    record = record_at(served.root)
    assert (record.current, record.previous) == ("1", "3")
    assert record.history[-1]["action"] == "promote"
    assert detector_of(served, 3).closed == 1


async def test_an_alias_names_a_version(served: Served) -> None:
    RepositoryFolder(served.root).model("shapes").set_alias("stable", "2")
    assert job_of(await reload(served, version="stable")).version == "2"
    assert answered_by(await predict(served)) == ("2", 2)


async def test_latest_is_the_last_complete_one(served: Served) -> None:
    job_of(await reload(served, version="1"))
    make_version(served.root, "10")
    make_version(served.root, "11", sealed=False)
    assert job_of(await reload(served, version="latest")).version == "10"


async def test_previous_is_what_was_current_before(served: Served) -> None:
    job_of(await reload(served, version="1"))
    assert job_of(await reload(served, version="previous")).version == "3"
    assert record_at(served.root).previous == "1"


async def test_the_current_version_again_is_unchanged(served: Served) -> None:
    history = record_at(served.root).history
    job = job_of(await reload(served, version="3"))
    assert (job.outcome, job.version, job.phases_s) == ("unchanged", "3", {})
    assert len(served.loader.loaded) == 1
    assert record_at(served.root).history == history


async def test_a_version_that_is_loaded_already_is_not_loaded_again(served: Served) -> None:
    job_of(await post(served, "/models/shapes/versions/1/load"))
    job = job_of(await reload(served, version="1"))
    assert (job.outcome, job.version) == ("swapped", "1")
    assert set(job.phases_s) == {"swap", "drain"}
    assert len(served.loader.loaded) == 2
    assert answered_by(await predict(served)) == ("1", 1)


# --- what the record says -------------------------------------------------------------------------


async def test_without_a_version_the_record_is_followed_that_another_process_has_changed(
    served: Served,
) -> None:
    promote(RepositoryFolder(served.root).model("shapes"), "1")
    assert answered_by(await predict(served)) == ("3", 3)
    job = job_of(await reload(served))
    assert (job.outcome, job.version) == ("swapped", "1")
    record = record_at(served.root)
    assert (record.current, record.previous) == ("1", "3")
    assert answered_by(await predict(served)) == ("1", 1)


async def test_without_a_version_nothing_happens_when_the_record_has_not_changed(
    served: Served,
) -> None:
    make_version(served.root, "4")  # that is newer does not make it current
    job = job_of(await reload(served))
    assert (job.outcome, job.version) == ("unchanged", "3")
    await require_untouched(served)


# --- only trying ----------------------------------------------------------------------------------


async def test_a_dry_run_loads_and_checks_and_lets_go(served: Served) -> None:
    job = job_of(await reload(served, version="1", dry_run=True))
    assert (job.outcome, job.version, job.dry_run) == ("dry_run", None, True)
    assert set(job.phases_s) == {"preflight", "load", "check", "warm_up"}
    assert job.checks
    assert detector_of(served, 1).closed == 1
    assert (await version_at(served, "1")).state == "available"
    await require_untouched(served)


async def test_a_dry_run_of_a_bad_version_tells_why(served: Served) -> None:
    make_version(served.root, "4", number=4, labels=SWAPPED)
    error = error_of(await reload(served, version="4", dry_run=True), 422)
    assert error.code == "classes_changed"
    await require_untouched(served)


async def test_a_dry_run_in_place_does_not_free_the_current_version(served: Served) -> None:
    job = job_of(await reload(served, version="1", dry_run=True, strategy="in_place"))
    assert (job.outcome, job.version, job.freed_bytes) == ("dry_run", None, None)
    assert detector_of(served, 3).closed == 0
    await require_untouched(served)


async def test_only_from_the_version_that_the_caller_has_seen(served: Served) -> None:
    error = error_of(await reload(served, version="1", current="2"), 409)
    assert (error.code, error.details) == ("current_changed", {"current": "3"})
    await require_untouched(served)
    assert job_of(await reload(served, version="1", current="3")).version == "1"
    # A refused call has not kept the model locked.
    assert job_of(await reload(served, version="2", current="1")).version == "2"


# --- in place -------------------------------------------------------------------------------------


async def test_in_place_frees_the_current_version_first(served: Served) -> None:
    old = detector_of(served, 3)
    served.loader.go.clear()
    begun = job_of(await reload(served, version="1", strategy="in_place", wait=False), 202)
    job = served.runtime.repository.jobs.get(begun.id)
    await until(lambda: job.phase == "load")
    assert old.closed == 1
    served.loader.go.set()
    await until(job.finished.is_set)
    assert (job.outcome, job.version, job.freed_bytes) == ("swapped", "1", 1003)
    assert answered_by(await predict(served)) == ("1", 1)


async def test_in_place_brings_the_old_version_back_when_the_new_one_is_refused(
    served: Served,
) -> None:
    make_version(served.root, "4", labels=SWAPPED)
    error = error_of(await reload(served, version="4", strategy="in_place"), 422)
    assert (error.code, error.details["serving_version"]) == ("classes_changed", "3")
    await require_untouched(served)


# --- refusals -------------------------------------------------------------------------------------


async def test_an_unknown_version_is_404_with_those_that_there_are(served: Served) -> None:
    error = error_of(await reload(served, version="9"), 404)
    assert (error.code, error.details["versions"]) == ("unknown_version", ["1", "2", "3"])


async def test_what_is_no_name_of_a_version_is_422(served: Served) -> None:
    assert error_of(await reload(served, version="../1"), 422).code == "invalid_name"


async def test_a_version_that_is_still_being_copied_is_422(served: Served) -> None:
    make_version(served.root, "4", sealed=False)
    assert error_of(await reload(served, version="4"), 422).code == "version_incomplete"
    await require_untouched(served)


async def test_a_file_that_is_not_the_one_of_the_manifest_is_refused_before_it_is_loaded(
    served: Served,
) -> None:
    (served.root / "shapes" / "1" / "model_final.pth").write_text("2")
    error = error_of(await reload(served, version="1"), 422)
    assert (error.code, error.details["file"]) == ("file_changed", "model_final.pth")
    assert len(served.loader.sources) == 1
    outcome = {"model": "shapes", "outcome": "preflight_failed"}
    assert served.metric("model_reloads_total", **outcome) == 1
    await require_untouched(served)


async def test_a_version_that_cannot_be_loaded_is_failed_with_the_reason(served: Served) -> None:
    folder = make_version(served.root, "4", sealed=False)
    (folder / "model_final.pth").write_text("no checkpoint")
    Manifest.of(folder).write(folder)
    error = error_of(await reload(served, version="4"), 422)
    assert error.code == "model_refused"
    job = job_of(await served.client.get(f"/reload/{error.details['reload']}"))
    assert (job.state, job.outcome, job.candidate) == ("failed", "load_failed", "4")
    version = await version_at(served, "4")
    assert (version.state, version.reason) == (VersionState.FAILED, error.message)
    await require_untouched(served)


@pytest.mark.parametrize("key", ["weights", "config", "labels"])
async def test_files_are_not_named_alone_in_a_repository(served: Served, key: str) -> None:
    path = "shapes/1/model_final.pth"
    assert error_of(await reload(served, **{key: path}), 422).code == "version_required"
    error = error_of(await reload(served, version="1", **{key: path}), 422)
    assert (error.code, error.details) == ("invalid_option", {"option": "version"})
    await require_untouched(served)


async def test_a_server_that_drains_begins_nothing(served: Served) -> None:
    served.runtime.draining = True
    for path in (
        "/reload", "/models/shapes/rollback", "/models/shapes/versions/1/load",
    ):  # fmt: skip
        assert error_of(await post(served, path), 503).code == "draining"
    alias = await served.client.put("/models/shapes/aliases/stable", json={"version": "1"})
    assert error_of(alias, 503).code == "draining"
    assert record_at(served.root).aliases == {}
    assert len(served.loader.sources) == 1


async def test_of_two_at_once_the_second_is_409_whatever_it_is(served: Served) -> None:
    served.loader.go.clear()
    begun = job_of(await reload(served, version="1", wait=False), 202)
    job = served.runtime.repository.jobs.get(begun.id)
    await until(lambda: job.phase == "load")
    assert (await version_at(served, "1")).state == "loading"
    for path in (
        "/reload", "/models/shapes/rollback", "/models/shapes/versions/2/load",
        "/models/shapes/versions/3/unload",
    ):  # fmt: skip
        assert error_of(await post(served, path), 409).code == "reload_running"
    removed = await served.client.delete("/models/shapes/versions/2")
    assert error_of(removed, 409).code == "reload_running"
    served.loader.go.set()
    await until(job.finished.is_set)
    assert job.state == "succeeded"

"""POST /models/{m}/rollback: back to the previous version, and what a restart remembers."""

import shutil
from pathlib import Path

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

pytestmark = pytest.mark.anyio

URL = "/models/shapes/rollback"


@pytest.fixture
async def served(serve: Serve, tmp_path: Path) -> Served:
    """Version 2 is current, 1 was before."""
    make_version(tmp_path, "1")
    started = serve(loader=FolderLoader(), repository=tmp_path)
    make_version(tmp_path, "2")
    job_of(await post(started, "/reload", version="2"))
    return started


async def test_the_previous_version_is_current_again(served: Served) -> None:
    job = job_of(await post(served, URL))
    assert (job.action, job.outcome) == ("rollback", "rolled_back")
    assert (job.previous_version, job.version, job.freed_bytes) == ("2", "1", 1002)
    assert set(job.phases_s) == {"preflight", "load", "check", "warm_up", "swap", "drain"}
    assert answered_by(await predict(served)) == ("1", 1)
    record = record_at(served.root)
    assert (record.current, record.previous) == ("1", None)
    assert (record.history[-1]["version"], record.history[-1]["action"]) == ("1", "rollback")
    assert served.metric("model_reloads_total", model="shapes", outcome="rolled_back") == 1


async def test_without_a_body_too(served: Served) -> None:
    response = await served.client.post(URL, headers={"Content-Type": "application/json"})
    assert job_of(response).version == "1"


async def test_twice_goes_back_two_versions_and_never_to_the_one_that_was_left(
    served: Served,
) -> None:
    make_version(served.root, "3")
    job_of(await post(served, "/reload", version="3"))
    assert [job_of(await post(served, URL)).version for _ in range(2)] == ["2", "1"]
    assert answered_by(await predict(served)) == ("1", 1)
    assert error_of(await post(served, URL), 409).code == "no_previous_version"
    assert answered_by(await predict(served)) == ("1", 1)


async def test_forward_again_is_a_reload_by_name_and_can_be_rolled_back_too(
    served: Served,
) -> None:
    job_of(await post(served, URL))
    job_of(await post(served, "/reload", version="2"))
    record = record_at(served.root)
    assert (record.current, record.previous) == ("2", "1")
    assert job_of(await post(served, URL)).version == "1"


async def test_two_who_say_which_version_they_leave_go_back_one_version_not_two(
    served: Served,
) -> None:
    assert job_of(await post(served, URL, current="2")).version == "1"
    error = error_of(await post(served, URL, current="2"), 409)
    assert (error.code, error.details) == ("current_changed", {"current": "1"})
    assert answered_by(await predict(served)) == ("1", 1)


async def test_without_waiting_it_is_202_and_the_job_tells(served: Served) -> None:
    begun = job_of(await post(served, URL, wait=False), 202)
    job = served.runtime.repository.jobs.get(begun.id)
    await until(job.finished.is_set)
    done = job_of(await served.client.get(f"/reload/{begun.id}"))
    assert (done.action, done.state, done.version) == ("rollback", "succeeded", "1")


async def test_kept_in_memory_the_previous_version_is_not_loaded_again(
    serve: Serve, tmp_path: Path
) -> None:
    for label in "12":
        make_version(tmp_path, label)
    served = serve(loader=FolderLoader(), repository=tmp_path, keep_previous="memory")
    job_of(await post(served, "/reload", version="1"))
    assert (await version_at(served, "2")).reason == "kept in host memory"
    for _ in range(2):
        assert job_of(await post(served, URL)).version == "2"
        assert answered_by(await predict(served)) == ("2", 2)
        assert job_of(await post(served, "/reload", version="1")).version == "1"
        assert answered_by(await predict(served)) == ("1", 1)
    assert len(served.loader.loaded) == 2
    assert [detector.closed for detector in served.loader.loaded] == [0, 0]


async def test_in_place_the_current_version_goes_first(served: Served) -> None:
    job = job_of(await post(served, URL, strategy="in_place"))
    assert (job.strategy, job.version, job.freed_bytes) == ("in_place", "1", 1002)
    assert answered_by(await predict(served)) == ("1", 1)


async def test_while_the_record_says_otherwise_nothing_is_rolled_back(served: Served) -> None:
    make_version(served.root, "3")
    promote(RepositoryFolder(served.root).model("shapes"), "3")
    assert answered_by(await predict(served)) == ("2", 2)  # nobody has told this process yet
    error = error_of(await post(served, URL), 409)
    assert (error.code, error.details["recorded"]) == ("record_differs", "3")
    record = record_at(served.root)
    assert (record.current, record.previous) == ("3", "2")
    assert answered_by(await predict(served)) == ("2", 2)
    assert (await model_at(served)).recorded == "3"


async def test_classes_may_change_on_the_way_back(serve: Serve, tmp_path: Path) -> None:
    make_version(tmp_path, "1", labels=("disc", "square", "star"))
    served = serve(loader=FolderLoader(), repository=tmp_path)
    make_version(tmp_path, "2", labels=("star", "square", "disc"))
    job_of(await post(served, "/reload", version="2", allow_class_changes=True))
    assert job_of(await post(served, URL)).version == "1"
    assert [kind.name for kind in (await model_at(served)).classes] == ["disc", "square", "star"]


async def test_the_way_back_passes_no_gate(serve: Serve, tmp_path: Path) -> None:
    model_yaml = "gate: {dataset: nope.json, min_ap: 99}\n"
    make_version(tmp_path, "1", files={"model.yaml": model_yaml})
    served = serve(loader=FolderLoader(), repository=tmp_path)
    make_version(tmp_path, "2")
    job_of(await post(served, "/reload", version="2"))
    assert error_of(await post(served, "/reload", version="1"), 422).code == "gate_impossible"
    job = job_of(await post(served, URL))
    assert (job.version, job.gate) == ("1", None)


# --- refusals -------------------------------------------------------------------------------------


async def test_without_a_previous_version_it_is_409(serve: Serve, tmp_path: Path) -> None:
    make_version(tmp_path, "1")
    served = serve(loader=FolderLoader(), repository=tmp_path)
    assert error_of(await post(served, URL), 409).code == "no_previous_version"
    # The refusal has not kept the model locked.
    assert job_of(await post(served, "/reload")).outcome == "unchanged"


async def test_a_previous_version_that_is_gone_is_404_and_the_current_one_serves_on(
    served: Served,
) -> None:
    shutil.rmtree(served.root / "shapes" / "1")
    assert error_of(await post(served, URL), 404).code == "unknown_version"
    assert answered_by(await predict(served)) == ("2", 2)
    assert record_at(served.root).current == "2"


async def test_a_previous_version_that_proves_bad_is_422_and_the_current_one_serves_on(
    served: Served,
) -> None:
    (served.root / "shapes" / "1" / "model_final.pth").write_text("7")
    error = error_of(await post(served, URL), 422)
    assert (error.code, error.details["serving_version"]) == ("file_changed", "2")
    assert answered_by(await predict(served)) == ("2", 2)
    assert record_at(served.root).current == "2"


async def test_an_unknown_model_is_404(served: Served) -> None:
    assert error_of(await post(served, "/models/car/rollback"), 404).code == "unknown_model"


@pytest.mark.parametrize("key", ["version", "dry_run", "gate", "allow_class_changes"])
async def test_it_takes_no_more_than_it_can_do(served: Served, key: str) -> None:
    error = error_of(await post(served, URL, **{key: False}), 422)
    assert (error.code, error.details) == ("invalid_option", {"option": key})


# --- a restart ------------------------------------------------------------------------------------


async def test_a_restart_remembers_what_is_current_previous_and_called_how(
    serve: Serve, served: Served
) -> None:
    make_version(served.root, "3")  # that is newer does not matter
    url = "/models/shapes/aliases/candidate"
    job_of(await served.client.put(url, json={"version": "3"}))
    make_version(served.root, "4")
    for label in ("4", "3"):
        job_of(await post(served, "/reload", version=label))
    job_of(await post(served, URL))
    served.close()

    again = serve(loader=FolderLoader(), repository=served.root)
    model = await model_at(again)
    assert (model.version, model.previous, model.aliases) == ("4", "2", {"candidate": "3"})
    assert answered_by(await predict(again)) == ("4", 4)
    assert answered_by(await predict(again, version="candidate")) == ("3", 3)
    states = {summary.version: summary.state for summary in model.versions}
    assert states == {"1": "available", "2": "available", "3": "ready", "4": "ready"}
    assert job_of(await post(again, URL)).version == "2"


async def test_a_restart_on_a_damaged_current_version_serves_the_previous_one_and_says_so(
    serve: Serve, served: Served
) -> None:
    served.close()
    (served.root / "shapes" / "2" / "model_final.pth").write_text("7")
    again = serve(loader=FolderLoader(), repository=served.root)
    assert answered_by(await predict(again)) == ("1", 1)
    damaged = await version_at(again, "2")
    assert damaged.state == "failed"
    assert "model_final.pth" in (damaged.reason or "")
    # What is recorded stays, for whoever puts the file back.
    assert record_at(served.root).current == "2"
    (served.root / "shapes" / "2" / "model_final.pth").write_text("2")
    assert job_of(await post(again, "/reload")).version == "2"
    assert answered_by(await predict(again)) == ("2", 2)


# --- files that were named alone ------------------------------------------------------------------


@pytest.fixture
async def on_files(serve: Serve, tmp_path: Path) -> Served:
    """a.pth was version 1, b.pth is version 2."""
    for name, number in (("a.pth", "7"), ("b.pth", "8")):
        (tmp_path / name).write_text(number)
    started = serve(loader=FolderLoader(), weights=tmp_path / "a.pth")
    job_of(await post(started, "/reload", weights="b.pth"))
    return started


async def test_without_a_repository_it_goes_back_to_the_files_that_were_loaded(
    on_files: Served,
) -> None:
    assert answered_by(await predict(on_files)) == ("2", 8)
    job = job_of(await post(on_files, URL))
    assert (job.outcome, job.version) == ("rolled_back", "1")
    assert answered_by(await predict(on_files)) == ("1", 7)
    assert job_of(await post(on_files, "/reload", version="2")).version == "2"
    assert answered_by(await predict(on_files)) == ("2", 8)


async def test_files_that_were_overwritten_meanwhile_are_422_and_the_current_version_serves_on(
    on_files: Served,
) -> None:
    (on_files.root / "a.pth").write_text("9")
    error = error_of(await post(on_files, URL), 422)
    assert (error.code, error.details["serving_version"]) == ("file_changed", "2")
    await until(lambda: detector_of(on_files, 9).closed)
    assert answered_by(await predict(on_files)) == ("2", 8)
    assert (await model_at(on_files)).previous == "1"


async def test_kept_in_memory_it_goes_back_even_then(serve: Serve, tmp_path: Path) -> None:
    weights = tmp_path / "a.pth"
    weights.write_text("7")
    served = serve(loader=FolderLoader(), weights=weights, keep_previous="memory")
    weights.write_text("8")
    job_of(await post(served, "/reload"))
    assert job_of(await post(served, URL)).version == "1"
    assert answered_by(await predict(served)) == ("1", 7)


async def test_without_a_repository_there_is_no_previous_version_at_first(
    serve: Serve, tmp_path: Path
) -> None:
    assert error_of(await post(serve(), URL), 409).code == "no_previous_version"

"""The watch: what it takes up by itself, what it leaves alone, and what it says of that."""

import errno
import logging
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_detector import NAMES, PATIENCE_S
from fake_repository import FolderLoader, make_version
from fake_server import Served

from service.repository.disk import atomic_file
from service.repository.disk.changing import promote, remove_version, rollback
from service.repository.disk.folder import RepositoryFolder
from service.repository.disk.manifest import Manifest
from service.repository.disk.record import ModelRecord
from service.repository.served import ServedModel
from service.repository.version import VersionState
from service.repository.watch import Watch

OTHER_NAMES = ("square", "disc", "star, red", "1")


class Watched:
    """A server on a folder with version 1, and a watch of it that looks when it is told to."""

    def __init__(self, root: Path, *labels: str) -> None:
        self.root = root
        for label in labels:
            make_version(root, label)
        self.folder = RepositoryFolder(root)
        self.loader = FolderLoader()
        self.served = Served(root, self.loader, repository=root)
        self.repository = self.served.runtime.repository
        self.open = True
        self.watch = Watch(self.repository, 3600.0, open=lambda: self.open)

    def look(self) -> list[str]:
        return self.watch.look()

    def add(self, label: str, **how: Any) -> Path:
        return make_version(self.root, label, **how)

    @property
    def model(self) -> ServedModel:
        return self.repository.get("shapes")

    @property
    def current(self) -> str:
        return self.model.current.label

    @property
    def record(self) -> ModelRecord:
        return self.folder.model("shapes").record()

    @property
    def loads(self) -> int:
        return len(self.loader.sources)

    def promote(self, label: str) -> None:
        """By the server itself, as over HTTP."""
        promote(self.folder.model("shapes"), label)
        assert self.look() == [f"shapes:{label}"]


Make = Callable[..., Watched]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    running: list[Watched] = []

    def made(*labels: str) -> Watched:
        running.append(Watched(tmp_path, *labels))
        return running[-1]

    yield made
    for watched in running:
        watched.served.close()


@pytest.fixture
def watched(make: Make) -> Watched:
    return make("1")


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the watch has logged since the last call."""
    messages = [r.getMessage() for r in caplog.records if r.name == "service.repository.watch"]
    caplog.clear()
    return messages


# --- what is taken up -----------------------------------------------------------------------------


def test_there_is_nothing_to_do_while_nothing_has_changed(watched: Watched) -> None:
    assert watched.look() == []
    assert watched.loads == 1


def test_a_new_complete_version_is_taken_up_and_recorded(watched: Watched) -> None:
    watched.add("2")
    assert watched.look() == ["shapes:2"]
    assert watched.current == "2"
    assert (watched.record.current, watched.record.previous) == ("2", "1")
    assert watched.look() == []


def test_the_newest_of_several_is_taken_up_and_the_others_are_not(watched: Watched) -> None:
    for label in ("2", "10", "9"):
        watched.add(label)
    assert watched.look() == ["shapes:10"]
    assert watched.look() == []
    assert watched.loads == 2


def test_versions_older_than_the_current_one_are_left_alone(make: Make) -> None:
    watched = make("5")
    watched.add("4")
    assert watched.look() == []
    assert watched.loads == 1


def test_a_new_model_is_served(watched: Watched) -> None:
    watched.add("1", model="cars", number=7)
    assert watched.look() == ["cars:1"]
    assert watched.repository.get("cars").current.detector.description.weights_sha256
    assert [model.name for model in watched.repository] == ["shapes", "cars"]


def test_a_model_that_had_no_version_at_the_start_is_served_once_it_has(
    tmp_path: Path, make: Make
) -> None:
    (tmp_path / "cars").mkdir()
    watched = make("1")
    assert watched.look() == []
    watched.add("1", model="cars")
    assert watched.look() == ["cars:1"]


def test_a_folder_that_is_no_model_is_none(watched: Watched) -> None:
    (watched.root / "data").mkdir()
    (watched.root / "data" / "val").mkdir()
    (watched.root / "notes.txt").write_text("no model")
    assert watched.look() == []
    assert [model.name for model in watched.repository] == ["shapes"]
    assert watched.served.metric("queue_depth", model="data") is None


def test_a_version_with_an_alias_is_left_alone(watched: Watched) -> None:
    watched.add("2")
    watched.folder.model("shapes").set_alias("candidate", "2")
    assert watched.look() == []
    assert watched.current == "1"


# --- partial copies -------------------------------------------------------------------------------


def test_a_version_without_a_manifest_is_taken_up_once_it_has_one(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    folder = watched.add("2", sealed=False)
    assert watched.look() == watched.look() == []
    [message] = said(caplog)
    assert "version 2 is not taken up yet" in message
    assert "manifest.json" in message
    Manifest.of(folder).write(folder)
    assert watched.look() == ["shapes:2"]


@pytest.mark.parametrize("partial", [None, ""])
def test_a_version_whose_file_is_missing_or_short_is_taken_up_once_it_is_whole(
    watched: Watched, partial: str | None
) -> None:
    weights = watched.add("2") / "model_final.pth"
    content = weights.read_text()
    if partial is None:
        weights.unlink()
    else:
        weights.write_text(partial)
    assert watched.look() == []
    assert watched.loads == 1
    weights.write_text(content)
    assert watched.look() == ["shapes:2"]


def test_a_partial_newest_version_does_not_hold_back_the_one_before(watched: Watched) -> None:
    watched.add("2")
    watched.add("3", sealed=False)
    assert watched.look() == ["shapes:2"]


# --- refusals -------------------------------------------------------------------------------------


def test_a_version_that_was_refused_is_not_tried_again_and_is_logged_once(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    folder = watched.add("2")
    (folder / "model_final.pth").write_text("x")  # of the same size
    Manifest.of(folder).write(folder)
    for _ in range(3):
        assert watched.look() == []
    [message] = said(caplog)
    assert "shapes: version 2 was refused" in message
    assert "is no checkpoint" in message
    assert watched.current == "1"
    assert watched.record.current == "1"
    assert watched.model.statuses["2"].state == VersionState.FAILED


def test_it_is_tried_again_once_its_files_have_changed(watched: Watched) -> None:
    folder = watched.add("2")
    (folder / "model_final.pth").write_text("x")
    Manifest.of(folder).write(folder)
    assert watched.look() == []
    (folder / "model_final.pth").write_text("2")
    Manifest.of(folder).write(folder)
    assert watched.look() == ["shapes:2"]


def test_a_file_that_is_another_is_tried_again_once_it_is_the_right_one(watched: Watched) -> None:
    weights = watched.add("2") / "model_final.pth"
    weights.write_text("7")  # as long as the right one
    assert watched.look() == watched.look() == []
    assert watched.loads == 1
    weights.unlink()
    weights.write_text("2")
    assert watched.look() == ["shapes:2"]


def test_a_newer_version_than_the_refused_one_is_taken_up(watched: Watched) -> None:
    watched.add("2", files={"model.yaml": "mode: sideways"})
    assert watched.look() == []
    watched.add("3")
    assert watched.look() == ["shapes:3"]


def test_an_older_one_is_taken_up_where_the_newest_was_refused(watched: Watched) -> None:
    watched.add("2")
    watched.add("3", labels=OTHER_NAMES)
    assert watched.look() == ["shapes:2"]
    assert watched.model.statuses["3"].state == VersionState.FAILED
    assert watched.look() == []


def test_settings_that_cannot_be_read_are_a_refusal_that_the_version_tells(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    watched.add("2", files={"model.yaml": "mode: sideways"})
    assert watched.look() == watched.look() == []
    [message] = said(caplog)
    assert "model.yaml: mode cannot be 'sideways'" in message
    status = watched.model.statuses["2"]
    assert status.state == VersionState.FAILED
    assert "sideways" in str(status.reason)


def test_a_disk_that_is_full_is_tried_again_less_and_less_often(
    watched: Watched, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    watched.add("2")
    with monkeypatch.context() as patch:
        patch.setattr(atomic_file.os, "fsync", full)
        tried_at = []
        for look in range(1, 17):
            before = watched.loads
            assert watched.look() == []
            tried_at += [look] * (watched.loads - before)
        assert tried_at == [1, 3, 7, 15]
        assert watched.current == "1"
        [message] = said(caplog)
        assert "No space left on device" in message
        assert "later" in message
    looks = 1
    while not watched.look():
        looks += 1
    assert looks == 15  # the 31st of all
    assert watched.current == "2"


# --- what others decide ---------------------------------------------------------------------------


def test_a_promotion_by_another_process_is_followed(make: Make) -> None:
    watched = make("1", "2", "3")
    assert watched.current == "3"
    promote(watched.folder.model("shapes"), "1")
    assert watched.look() == ["shapes:1"]
    assert watched.current == "1"
    assert [entry["version"] for entry in watched.record.history] == ["3", "1"]


def test_what_a_promotion_passed_over_is_not_taken_up(make: Make) -> None:
    watched = make("1", "2", "3")
    watched.promote("1")
    assert watched.look() == []
    assert watched.current == "1"


async def _rolled_back(watched: Watched) -> None:
    answer = await watched.served.client.post("/models/shapes/rollback", json={})
    assert answer.status_code == 200


@pytest.mark.anyio
async def test_a_rollback_is_not_undone(watched: Watched) -> None:
    watched.add("2")
    watched.look()
    await _rolled_back(watched)
    assert watched.look() == watched.look() == []
    assert watched.current == "1"


@pytest.mark.anyio
async def test_after_a_rollback_the_next_new_version_is_taken_up(watched: Watched) -> None:
    watched.add("2")
    watched.look()
    await _rolled_back(watched)
    watched.add("3")
    assert watched.look() == ["shapes:3"]


@pytest.mark.anyio
async def test_removing_what_was_rolled_back_brings_nothing_else_up(make: Make) -> None:
    watched = make("1")
    watched.add("3")
    watched.look()
    watched.add("2")
    await _rolled_back(watched)
    remove_version(watched.folder.model("shapes"), "3")
    assert watched.look() == []
    assert watched.current == "1"


def test_a_rollback_by_another_process_asks_neither_for_a_gate_nor_for_classes(
    tmp_path: Path, make: Make
) -> None:
    gate = "gate: {dataset: ../nowhere.json, min_ap: 99}"
    make_version(tmp_path, "1", labels=OTHER_NAMES, files={"model.yaml": gate})
    watched = make("2")
    model = watched.folder.model("shapes")
    model.change(lambda record: ModelRecord(current="2", previous="1", history=record.history))
    rollback(model)
    assert watched.look() == ["shapes:1"]
    names = watched.model.current.detector.description.class_names
    assert names == OTHER_NAMES != NAMES


def test_a_promotion_by_another_process_has_to_pass_the_gate(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    watched.add("2", files={"model.yaml": "gate: {dataset: ../nowhere.json, min_ap: 99}"})
    promote(watched.folder.model("shapes"), "2")
    assert watched.look() == watched.look() == []
    [message] = said(caplog)
    assert "nowhere.json" in message
    assert watched.current == "1"


def test_after_a_start_that_had_to_fall_back_the_broken_version_is_tried_once(
    tmp_path: Path, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    for label in "12":
        make_version(tmp_path, label)
    folder = RepositoryFolder(tmp_path).model("shapes")
    promote(folder, "1")
    promote(folder, "2")
    (folder.path / "2" / "model_final.pth").write_text("x")
    watched = make()
    assert watched.current == "1"
    assert watched.look() == watched.look() == watched.look() == []
    assert len(said(caplog)) == 1
    assert watched.record.current == "2"
    (folder.path / "2" / "model_final.pth").write_text("2")
    assert watched.look() == ["shapes:2"]


@pytest.mark.anyio
async def test_a_model_that_lost_its_version_in_a_swap_in_place_gets_it_back_once_it_can(
    watched: Watched,
) -> None:
    broken = watched.add("2")
    (broken / "model_final.pth").write_text("x")
    Manifest.of(broken).write(broken)
    (watched.root / "shapes" / "1" / "model_final.pth").write_text("x")
    body = {"version": "2", "strategy": "in_place"}
    answer = await watched.served.client.post("/reload", json=body)
    assert answer.status_code == 503
    assert watched.model.lost
    assert watched.look() == watched.look() == []
    (watched.root / "shapes" / "1" / "model_final.pth").write_text("1")
    assert watched.look() == ["shapes:1"]
    assert not watched.model.lost


def test_a_current_version_that_is_gone_does_not_hold_back_a_new_one(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    watched.add("2")
    promote(watched.folder.model("shapes"), "2")
    shutil.rmtree(watched.root / "shapes" / "2")
    assert watched.look() == watched.look() == []
    [message] = said(caplog)
    assert "no version '2'" in message
    watched.add("3")
    assert watched.look() == ["shapes:3"]


def test_a_record_that_changes_while_it_looks_waits_for_the_next_look(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched.add("2")
    watched.add("3")
    start = watched.repository.start

    def overtaken(*args: Any, **options: Any) -> Any:
        promote(watched.folder.model("shapes"), "2")
        return start(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(watched.repository, "start", overtaken)
        assert watched.look() == []
    assert watched.current == "1"
    assert "3" not in watched.model.statuses
    assert watched.look() == ["shapes:2"]


def test_a_model_that_somebody_else_changes_waits_for_the_next_look(watched: Watched) -> None:
    watched.add("2")
    with watched.model.changing:
        assert watched.look() == []
    assert watched.look() == ["shapes:2"]


# --- the server and the disk ----------------------------------------------------------------------


def test_nothing_begins_while_the_server_drains(watched: Watched) -> None:
    watched.add("2")
    watched.open = False
    assert watched.look() == []
    assert watched.loads == 1


def test_a_damaged_record_is_told_once_and_other_models_go_on(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    state = watched.root / "shapes" / "state.json"
    content = state.read_bytes()
    state.write_text("{")
    watched.add("1", model="trees")
    assert watched.look() == ["trees:1"]
    assert watched.look() == []
    [message] = [text for text in said(caplog) if "shapes" in text]
    assert "state.json" in message
    state.write_bytes(content)
    watched.look()
    state.write_text("{")
    watched.look()
    assert len(said(caplog)) == 1  # it is damaged anew


def test_a_repository_that_cannot_be_read_is_told_once_until_it_can(
    watched: Watched, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone() -> list[str]:
        raise OSError(errno.ESTALE, "Stale file handle")

    with monkeypatch.context() as patch:
        assert watched.repository.folder is not None
        patch.setattr(watched.repository.folder, "models", gone)
        assert watched.look() == watched.look() == []
    assert said(caplog) == ["the repository cannot be read: Stale file handle"]
    watched.add("2")
    assert watched.look() == ["shapes:2"]


# --- the thread -----------------------------------------------------------------------------------


class Looking(Watch):
    """Tells of its looks; the first ones fail."""

    def __init__(self, watched: Watched, failures: int = 0) -> None:
        super().__init__(watched.repository, 0.001)
        self.failures = failures
        self.looked = threading.Event()

    def look(self) -> list[str]:
        if self.failures:
            self.failures -= 1
            raise ZeroDivisionError
        taken = super().look()
        self.looked.set()
        return taken


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "watch"]


def test_the_thread_looks_until_it_is_stopped(watched: Watched) -> None:
    watch = Looking(watched)
    watch.start()
    [thread] = threads()
    assert watch.looked.wait(PATIENCE_S)
    watch.stop()
    thread.join(PATIENCE_S)
    assert threads() == []


def test_a_defect_does_not_end_the_thread(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    watch = Looking(watched, failures=1)
    watch.start()
    assert watch.looked.wait(PATIENCE_S)
    [thread] = threads()
    watch.stop()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()
    assert said(caplog) == ["the watch met an unexpected error"]


def test_once_stopped_nothing_more_begins(watched: Watched) -> None:
    watched.add("2")
    watched.watch.stop()
    assert watched.look() == []
    assert watched.loads == 1


def test_a_server_with_watch_s_looks_and_stops_with_it(tmp_path: Path) -> None:
    make_version(tmp_path, "1")
    served = Served(tmp_path, FolderLoader(), repository=tmp_path, watch_s=3600)
    [thread] = threads()
    served.close()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()

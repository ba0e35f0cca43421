"""What is current, previous and called how: changed as a whole, or not at all."""

import errno
import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from service.errors import ApiError, Conflict, NotFound, Unprocessable
from service.repository.disk import record as record_module
from service.repository.disk.record import (
    KEPT_HISTORY,
    ModelRecord,
    StateDamaged,
    StateNotWritten,
    change_record,
    read_record,
    record_lock,
)


def promote(folder: Path, label: str) -> ModelRecord:
    return change_record(folder, lambda record: record.promoted(label))


def test_a_model_without_a_record_has_an_empty_one(tmp_path: Path) -> None:
    assert read_record(tmp_path) == ModelRecord(None, None, {}, ())
    assert list(tmp_path.iterdir()) == []


def test_what_was_written_is_read(tmp_path: Path) -> None:
    promote(tmp_path, "1")
    written = change_record(tmp_path, lambda r: r.promoted("2").with_alias("stable", "1"))
    assert read_record(tmp_path) == written
    assert (written.current, written.previous, written.aliases) == ("2", "1", {"stable": "1"})
    assert [(e["version"], e["action"]) for e in written.history] == [
        ("1", "promote"),
        ("2", "promote"),
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "state.json"]


def test_promoting_what_is_current_keeps_the_previous_one() -> None:
    record = ModelRecord().promoted("1").promoted("2").promoted("2")
    assert (record.current, record.previous) == ("2", "1")


def line_of(record: ModelRecord) -> list[str | None]:
    """What further rollbacks make current, until there is none."""
    line = []
    while record.previous is not None:
        record = record.rolled_back()
        line.append(record.current)
    return line


def test_rollbacks_go_back_one_by_one_and_never_forward() -> None:
    record = ModelRecord().promoted("1").promoted("2").promoted("3")
    back = record.rolled_back()
    assert (back.current, back.previous) == ("2", "1")
    assert back.history[-1]["action"] == "rollback"
    assert line_of(record) == ["2", "1"]


def test_after_a_rollback_the_next_version_follows_what_it_went_back_to() -> None:
    record = ModelRecord().promoted("1").promoted("2").promoted("3").rolled_back().promoted("4")
    assert line_of(record) == ["2", "1"]


def test_an_old_version_that_is_promoted_again_is_the_newest_of_the_line() -> None:
    record = ModelRecord().promoted("1").promoted("2").promoted("3").promoted("1")
    assert line_of(record) == ["3", "2"]


def test_a_line_longer_than_the_history_ends_with_it() -> None:
    record = ModelRecord()
    for label in range(KEPT_HISTORY + 10):
        record = record.promoted(str(label))
    assert len(line_of(record)) <= KEPT_HISTORY


def test_without_a_previous_version_nothing_is_rolled_back() -> None:
    with pytest.raises(Conflict) as caught:
        ModelRecord().promoted("1").rolled_back()
    assert caught.value.code == "no_previous_version"


def test_aliases_move_and_go() -> None:
    record = ModelRecord().with_alias("stable", "1").with_alias("stable", "2")
    assert record.aliases == {"stable": "2"}
    assert record.without_alias("stable").aliases == {}
    with pytest.raises(NotFound, match="there are: stable"):
        record.without_alias("candidate")
    with pytest.raises(Unprocessable, match="reserved"):
        record.with_alias("latest", "1")


def test_the_history_is_bounded(tmp_path: Path) -> None:
    record = ModelRecord()
    for number in range(KEPT_HISTORY + 5):
        record = record.promoted(str(number))
    assert [entry["version"] for entry in record.history] == [
        str(number) for number in range(5, KEPT_HISTORY + 5)
    ]


def test_no_change_writes_nothing(tmp_path: Path) -> None:
    promote(tmp_path, "1")
    before = (tmp_path / "state.json").stat()
    change_record(tmp_path, lambda record: record)
    assert (tmp_path / "state.json").stat().st_ino == before.st_ino


def test_a_change_that_is_refused_leaves_the_record_and_the_lock_free(tmp_path: Path) -> None:
    promote(tmp_path, "1")
    with pytest.raises(Conflict):
        change_record(tmp_path, lambda record: record.rolled_back())
    assert promote(tmp_path, "2").previous == "1"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"null",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"current": "1", "previous": null, "aliases": {}, "history": []}',
        b'{"format": 2, "current": "1", "previous": null, "aliases": {}, "history": []}',
        b'{"format": 1, "current": 1, "previous": null, "aliases": {}, "history": []}',
        b'{"format": 1, "current": "../1", "previous": null, "aliases": {}, "history": []}',
        b'{"format": 1, "current": "1", "previous": null, "aliases": {"a": 1}, "history": []}',
        b'{"format": 1, "current": "1", "previous": null, "aliases": [], "history": []}',
        b'{"format": 1, "current": "1", "previous": null, "aliases": {}, "history": [1]}',
        b'{"format": 1, "current": "1", "previous": null, "aliases": {}, "history": 5}',
        b'{"format": 1}' + b" " * 2**20 + b"x",
    ],
)
def test_a_damaged_record_is_told_and_not_replaced(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "state.json").write_bytes(content)
    for action in (lambda: read_record(tmp_path), lambda: promote(tmp_path, "2")):
        with pytest.raises(StateDamaged) as caught:
            action()
        assert caught.value.code == "state_damaged"
        assert "backup" in caught.value.message
        assert str(tmp_path) not in caught.value.message
    assert (tmp_path / "state.json").read_bytes() == content


def test_a_record_that_is_a_pipe_or_a_dangling_link_is_damaged(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "state.json")
    with pytest.raises(StateDamaged):
        read_record(tmp_path)
    (tmp_path / "state.json").unlink()
    (tmp_path / "state.json").symlink_to("/nowhere/state.json")
    with pytest.raises(StateDamaged):
        read_record(tmp_path)


@pytest.mark.parametrize("kind", ["file", "symlink", "fifo"])
def test_what_a_crash_left_is_ignored_and_goes_with_the_next_write(
    tmp_path: Path, kind: str
) -> None:
    promote(tmp_path, "1")
    victim = tmp_path / "victim"
    victim.write_text("mine")
    left = tmp_path / ".state.json.new"
    if kind == "file":
        left.write_text('{"format": 1, "cur')
    elif kind == "symlink":
        left.symlink_to(victim)
    else:
        os.mkfifo(left)
    assert read_record(tmp_path).current == "1"
    assert promote(tmp_path, "2").current == "2"
    assert not os.path.lexists(left)
    assert victim.read_text() == "mine"


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT, errno.EIO])
@pytest.mark.parametrize("step", ["open", "fsync", "replace"])
def test_a_disk_that_refuses_leaves_the_old_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, code: int
) -> None:
    promote(tmp_path, "1")
    before = (tmp_path / "state.json").read_bytes()
    real_open = os.open

    def refuse(*_: Any, **__: Any) -> Any:
        raise OSError(code, os.strerror(code))

    def refuse_to_create(path: Any, flags: int, *rest: Any, **more: Any) -> int:
        return refuse() if flags & os.O_EXCL else real_open(path, flags, *rest, **more)

    with monkeypatch.context() as patch:
        patch.setattr(os, step, refuse_to_create if step == "open" else refuse)
        with pytest.raises(StateNotWritten) as caught:
            promote(tmp_path, "2")
    assert (caught.value.status, caught.value.code) == (507, "state_not_written")
    assert os.strerror(code) in caught.value.message
    assert (tmp_path / "state.json").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "state.json"]
    assert promote(tmp_path, "2").current == "2"


def test_a_folder_that_takes_no_lock_is_not_writable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> int:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(StateNotWritten, match="Read-only file system"):
        promote(tmp_path, "1")


def test_a_folder_that_cannot_be_synced_has_the_new_record_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real, calls = os.fsync, []

    def only_files(handle: int) -> None:
        calls.append(handle)
        if len(calls) > 1:
            raise OSError(errno.EINVAL, "Invalid argument")
        real(handle)

    monkeypatch.setattr(os, "fsync", only_files)
    assert promote(tmp_path, "1") == read_record(tmp_path)
    assert len(calls) == 2
    assert "cannot be synced" in caplog.text


def test_a_writer_waits_for_the_other(tmp_path: Path) -> None:
    waits = threading.Event()
    changed: list[ModelRecord] = []

    def change() -> None:
        waits.set()
        changed.append(promote(tmp_path, "2"))

    with record_lock(tmp_path):
        other = threading.Thread(target=change)
        other.start()
        waits.wait()
        assert read_record(tmp_path) == ModelRecord()
        assert changed == []
    other.join()
    assert changed[0].current == "2"


def test_a_lock_that_is_never_given_back_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record_module, "LOCK_TIMEOUT_S", 0.0)
    with record_lock(tmp_path), pytest.raises(Conflict) as caught:
        promote(tmp_path, "1")
    assert caught.value.code == "state_locked"


def test_the_lock_is_no_link_to_elsewhere(tmp_path: Path) -> None:
    (tmp_path / ".lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ApiError) as caught:
        promote(tmp_path, "1")
    assert caught.value.code == "state_not_written"
    assert not (tmp_path / "elsewhere").exists()


def test_the_file_is_json_that_people_read(tmp_path: Path) -> None:
    promote(tmp_path, "1")
    value = json.loads((tmp_path / "state.json").read_text())
    assert value["format"] == 1
    assert value["current"] == "1"

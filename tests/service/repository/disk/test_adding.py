"""New versions: copied, checked and complete, or not there at all."""

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from version_files import repository, write_files

from models import load_config
from models.errors import CheckpointError, ConfigError, ModelError
from service.errors import ApiError, Conflict, NotFound, Unprocessable
from service.repository.disk.adding import add_version, finish_version, seal_version, staging
from service.repository.disk.disk_errors import VersionNotWritten
from service.repository.disk.folder import ModelFolder, VersionFolder
from service.repository.disk.regular_files import VersionProblem
from service.settings import PRETRAINED

CONFIG, WEIGHTS = PRETRAINED / "config.yaml", PRETRAINED / "model_final.pth"
LABELS = PRETRAINED / "labels.txt"
_FOUND = '{"scores": [0.9], "pred_classes": [0], "pred_boxes": [[1, 2, 3, 4]]}'
GOLDEN = f'{{"predictions": [{{"image": {{"name": "a.jpg"}}, "instances": {_FOUND}}}]}}'.encode()


def add(model: ModelFolder, label: str | None = None, **files: Any) -> VersionFolder:
    return add_version(model, label, **({"config": CONFIG, "weights": WEIGHTS} | files))


def names(folder: Path) -> list[str]:
    return sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".lock"
    )


def verify(version: VersionFolder) -> None:
    assert version.complete
    version.manifest().verify(version.path)


def test_a_version_is_copied_and_complete(tmp_path: Path) -> None:
    model = repository(tmp_path)
    golden = write_files(tmp_path / "ours", {"mine.json": GOLDEN, "golden/a.jpg": b"a"})
    (golden / "golden" / "notes.txt").write_text("not copied")
    settings = golden / "settings.yaml"
    settings.write_text("score_threshold: 0.5\n")
    read: list[int] = []
    version = add(
        model,
        "v1",
        labels=LABELS,
        model_yaml=settings,
        golden=golden / "mine.json",
        progress=lambda _, count: read.append(count),
    )
    assert (version.label, version.path) == ("v1", model.path / "v1")
    assert names(version.path) == [
        "config.yaml",
        "golden.json",
        "golden/a.jpg",
        "labels.txt",
        "manifest.json",
        "model.yaml",
        "model_final.pth",
    ]
    verify(version)
    assert version.weights.read_bytes() == WEIGHTS.read_bytes()
    assert sum(read) == 2 * version.size_bytes  # copied, and hashed
    assert sorted(os.listdir(model.path)) == [".lock", "v1"]


def test_without_a_label_versions_are_counted(tmp_path: Path) -> None:
    model = repository(tmp_path, "9", "v30")
    model.change(lambda record: record.promoted("11").promoted("9"))  # 11 was, and is gone
    assert add(model).label == "12"


@pytest.mark.parametrize("label", ["1", "stable"])
def test_a_name_that_is_taken_is_refused_before_anything_is_copied(
    tmp_path: Path, label: str
) -> None:
    model = repository(tmp_path, "1")
    model.set_alias("stable", "1")
    before = names(tmp_path)
    with pytest.raises(Conflict) as caught:
        add(model, label, weights=tmp_path / "model_final.pth")
    assert caught.value.code in ("version_exists", "alias_exists")
    assert names(tmp_path) == before


def truncated(folder: Path) -> Path:
    path = folder / "cut.pth"
    path.write_bytes(WEIGHTS.read_bytes()[:100_000])
    return path


def of_another_model(folder: Path) -> Path:
    path = folder / "other.pth"
    torch.save({"model": {"weight": torch.zeros(3)}}, path)
    return path


def not_finite(folder: Path) -> Path:
    path = folder / "nan.pth"
    state = torch.load(WEIGHTS, weights_only=True)
    next(t for t in state["model"].values() if t.is_floating_point()).fill_(torch.nan)
    torch.save(state, path)
    return path


def gadget(folder: Path) -> Path:
    path = folder / "gadget.pkl"
    path.write_bytes(b"cos\nsystem\n(S'touch " + bytes(folder / "run") + b"'\ntR.")
    return path


@pytest.mark.parametrize("make", [truncated, of_another_model, not_finite, gadget])
def test_weights_that_are_none_of_this_model_leave_no_version(
    tmp_path: Path, make: Callable[[Path], Path]
) -> None:
    model = repository(tmp_path)
    with pytest.raises(CheckpointError):
        add(model, weights=make(tmp_path))
    assert os.listdir(model.path) == [".lock"]
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("labels", "disc\n", "1 names"),
        ("config", "MODEL: !!python/object/apply:os.system [ls]", "nothing was executed"),
        ("config", "MODEL: {ROI_HEADS: {NUM_CLASSES: 7}}", "does not fit"),
        ("model_yaml", "!!python/object/apply:os.system [ls]", "model.yaml"),
        ("model_yaml", "zoo: COCO-Detection/retinanet_R_50_FPN_1x", "one config"),
        ("model_yaml", "classes: [a, b]", "2 names"),
        ("golden", '{"predictions": [{"image": {"name": "../x.jpg"}}]}', "leads out"),
    ],
)
def test_other_files_that_do_not_fit_leave_no_version(
    tmp_path: Path, name: str, content: str, message: str
) -> None:
    model = repository(tmp_path)
    file = tmp_path / "given"
    file.write_text(content)
    (tmp_path / "golden").mkdir()
    with pytest.raises(ModelError, match=message):
        add(model, **{name: file})
    assert os.listdir(model.path) == [".lock"]


def test_without_a_config_weights_must_speak_for_themselves(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="needs a config"):
        add(repository(tmp_path), config=None)


def test_a_config_is_written_with_what_it_builds_on(tmp_path: Path) -> None:
    model = repository(tmp_path)
    shutil.copy(CONFIG, tmp_path / "base.yaml")
    derived = tmp_path / "derived.yaml"
    derived.write_text("_BASE_: base.yaml\nTEST: {DETECTIONS_PER_IMAGE: 7}\n")
    version = add(model, config=derived)
    (tmp_path / "base.yaml").unlink()
    assert version.config is not None
    written = load_config(version.config)
    assert written.TEST.DETECTIONS_PER_IMAGE == 7
    assert written.MODEL.to_dict() == load_config(CONFIG).MODEL.to_dict()


@pytest.mark.parametrize("kind", ["missing", "folder", "pipe"])
def test_a_file_that_cannot_be_copied_is_named(tmp_path: Path, kind: str) -> None:
    model = repository(tmp_path)
    given = tmp_path / "given.pth"
    if kind == "folder":
        given.mkdir()
    elif kind == "pipe":
        os.mkfifo(given)
    with pytest.raises(Unprocessable, match=r"given\.pth cannot be copied") as caught:
        add(model, weights=given)
    assert caught.value.code == "unreadable_file"
    assert os.listdir(model.path) == [".lock"]


def test_a_file_that_is_no_checkpoint_by_its_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Unprocessable) as caught:
        add(repository(tmp_path), weights=CONFIG)
    assert caught.value.code == "invalid_file_name"


@pytest.mark.parametrize(
    ("code", "name"), [(errno.ENOSPC, "disk_full"), (errno.EROFS, "version_not_written")]
)
def test_a_disk_that_refuses_leaves_no_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, name: str
) -> None:
    model = repository(tmp_path)

    def refuse(_: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(VersionNotWritten) as caught:
        add(model)
    assert (caught.value.status, caught.value.code) == (507, name)
    assert str(tmp_path) not in caught.value.message
    assert os.listdir(model.path) == [".lock"]


def test_two_that_want_the_same_name_do_not_mix(tmp_path: Path) -> None:
    model = repository(tmp_path)
    with staging(model) as slow:
        shutil.copy(CONFIG, slow / "config.yaml")
        shutil.copy(WEIGHTS, slow / "model_final.pth")
        first = add(model, "1", labels=LABELS)
        with pytest.raises(Conflict) as caught:
            finish_version(model, slow, "1")
    assert caught.value.code == "version_exists"
    verify(first)
    assert first.labels is not None


def test_a_staging_folder_in_use_stays_and_an_abandoned_one_goes(tmp_path: Path) -> None:
    model = repository(tmp_path)
    write_files(model.path / ".staging-0123456789ab")
    write_files(model.path / ".removed-1-01234567")
    with staging(model) as mine, staging(model) as other:
        left = {name for name in os.listdir(model.path) if name != ".lock"}
        assert left == {mine.name, other.name}


def test_a_folder_that_was_copied_by_hand_is_sealed(tmp_path: Path) -> None:
    model = repository(tmp_path)
    folder = model.path / "1"
    folder.mkdir()
    for path in (CONFIG, WEIGHTS, LABELS):
        shutil.copy(path, folder)
    verify(seal_version(model, "1"))
    with pytest.raises(Conflict) as caught:
        seal_version(model, "1")
    assert caught.value.code == "version_sealed"


def test_what_does_not_fit_is_not_sealed(tmp_path: Path) -> None:
    model = repository(tmp_path)
    write_files(model.path / "1")
    with pytest.raises(CheckpointError):
        seal_version(model, "1")
    os.mkfifo(model.path / "1" / "labels.txt")
    with pytest.raises(VersionProblem) as caught:
        seal_version(model, "1")
    assert caught.value.code == "not_a_regular_file"
    assert not model.version("1").complete
    with pytest.raises(NotFound):
        seal_version(model, "2")


def test_a_model_folder_that_is_gone_is_told(tmp_path: Path) -> None:
    model = repository(tmp_path)
    model.path.rmdir()
    with pytest.raises(ApiError) as caught:
        add(model)
    assert caught.value.status == 507

"""What makes a model: weights with their own config, one of the zoo, or one that they speak for."""

from pathlib import Path

import pytest
from small_models import write_small_model

from models.errors import CheckpointError, ConfigError, ModelError, PathNotAllowedError
from service.repository.disk.contents import check_contents
from service.repository.disk.folder import VersionFolder


def version(folder: Path) -> VersionFolder:
    return VersionFolder("1", folder, folder)


@pytest.mark.parametrize("name", ["mask_rcnn", "retinanet", "fcos", "semantic", "torchvision"])
def test_weights_fit_their_config(tmp_path: Path, name: str) -> None:
    write_small_model(name, tmp_path)
    check_contents(version(tmp_path))


def test_a_config_of_the_zoo_is_held_against_the_weights(tmp_path: Path) -> None:
    config, _ = write_small_model("retinanet", tmp_path)
    assert config is not None
    config.unlink()
    with pytest.raises(ConfigError, match="needs a config"):
        check_contents(version(tmp_path))
    (tmp_path / "model.yaml").write_text("zoo: COCO-Detection/retinanet_R_50_FPN_1x\n")
    with pytest.raises(CheckpointError, match="does not fit"):
        check_contents(version(tmp_path))


def test_names_of_torchvisions_models_are_counted_too(tmp_path: Path) -> None:
    write_small_model("torchvision", tmp_path)
    (tmp_path / "labels.txt").write_text("car\nbus\n")
    with pytest.raises(ModelError, match="2 names"):
        check_contents(version(tmp_path))
    (tmp_path / "labels.txt").write_text("car\nbus\nbike\n")
    check_contents(version(tmp_path))


def test_names_of_a_semantic_model_are_counted_too(tmp_path: Path) -> None:
    write_small_model("semantic", tmp_path)
    (tmp_path / "labels.txt").write_text("sky\nroad\n")
    with pytest.raises(ModelError, match=r"2 names.*MODEL\.SEM_SEG_HEAD\.NUM_CLASSES"):
        check_contents(version(tmp_path))


@pytest.mark.parametrize(
    ("name", "file", "content"),
    [
        ("retinanet", "labels.txt", "car\n"),
        ("panoptic", "stuff_labels.txt", "things\nsky\n"),
        ("keypoints", "keypoints.json", '{"names": ["nose", "tail"]}'),
    ],
)
def test_names_of_another_number_are_refused_with_their_key(
    tmp_path: Path, name: str, file: str, content: str
) -> None:
    write_small_model(name, tmp_path)
    (tmp_path / file).write_text(content)
    key = {"labels.txt": "RETINANET", "stuff_labels.txt": "SEM_SEG_HEAD"}.get(file, "KEYPOINT_HEAD")
    with pytest.raises(ModelError, match=key):
        check_contents(version(tmp_path))


def test_a_config_builds_on_nothing_outside_the_root(tmp_path: Path) -> None:
    folder = tmp_path / "1"
    folder.mkdir()
    config, _ = write_small_model("retinanet", folder)
    assert config is not None
    config.rename(tmp_path / "base.yaml")
    config.write_text("_BASE_: ../base.yaml\n")
    with pytest.raises(PathNotAllowedError):
        check_contents(version(folder))

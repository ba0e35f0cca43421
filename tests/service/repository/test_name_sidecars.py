"""Names of stuff and of keypoints beside a config."""

from pathlib import Path

import pytest

from models.errors import ModelError, PathNotAllowedError
from models.metadata import DatasetMetadata, dataset_metadata
from models.sidecars import KEYPOINTS, LABELS, STUFF_LABELS, KeypointNames
from service.repository.disk import manifest
from service.repository.disk.staging import check_file_name
from service.repository.labels import SIDECAR
from service.repository.sidecars import with_sidecars

PANOPTIC = dataset_metadata("coco_2017_val_panoptic_separated")
BOAT = KeypointNames(("left_end", "right_end"), (("left_end", "right_end"),))


def read(folder: Path, *, stuff: int = 0, keypoints: int = 0, **more: object) -> object:
    return with_sidecars(
        PANOPTIC,
        folder,
        num_stuff_classes=stuff,
        num_keypoints=keypoints,
        **more,  # type: ignore[arg-type]  # root alone
    )


def test_without_files_what_was_known_stays(tmp_path: Path) -> None:
    assert read(tmp_path, stuff=54, keypoints=17) == PANOPTIC
    assert with_sidecars(None, tmp_path, num_stuff_classes=3, num_keypoints=3) is None


def test_files_come_before_what_is_known_of_a_data_set(tmp_path: Path) -> None:
    (tmp_path / STUFF_LABELS).write_text("things\nsky\n")
    (tmp_path / KEYPOINTS).write_text(BOAT.to_json())
    found = read(tmp_path, stuff=2, keypoints=2)
    assert isinstance(found, DatasetMetadata)
    assert PANOPTIC is not None
    assert found.thing_classes == PANOPTIC.thing_classes
    assert found.stuff_classes == ("things", "sky")
    assert found.keypoint_names == BOAT.names
    assert found.keypoint_flip_map == BOAT.flip_map


def test_a_model_without_such_a_head_reads_no_such_file(tmp_path: Path) -> None:
    (tmp_path / STUFF_LABELS).write_text("things\nsky\n")
    (tmp_path / KEYPOINTS).write_text("broken")
    assert read(tmp_path) == PANOPTIC


def test_another_number_is_refused_with_the_key(tmp_path: Path) -> None:
    (tmp_path / STUFF_LABELS).write_text("things\nsky\n")
    with pytest.raises(ModelError, match=r"2 names.*54 classes \(MODEL\.SEM_SEG_HEAD\.NUM_CLASSES"):
        read(tmp_path, stuff=54)
    (tmp_path / KEYPOINTS).write_text(BOAT.to_json())
    with pytest.raises(ModelError, match=r"2 names.*17 keypoints.*NUM_KEYPOINTS"):
        read(tmp_path, keypoints=17)


@pytest.mark.parametrize("name", [STUFF_LABELS, KEYPOINTS])
def test_files_outside_of_the_root_are_refused(tmp_path: Path, name: str) -> None:
    inside = tmp_path / "root"
    inside.mkdir()
    (tmp_path / name).write_text(BOAT.to_json())
    (inside / name).symlink_to(tmp_path / name)
    with pytest.raises(PathNotAllowedError, match="outside the model folder"):
        read(inside, stuff=2, keypoints=2, root=inside)


def test_a_repository_has_them_by_the_same_names() -> None:
    for name in (LABELS, STUFF_LABELS, KEYPOINTS):
        assert check_file_name(name) == name
    assert (manifest.LABELS, SIDECAR) == (LABELS, LABELS)
    assert (manifest.STUFF_LABELS, manifest.KEYPOINTS) == (STUFF_LABELS, KEYPOINTS)

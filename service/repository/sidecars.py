"""What lies beside a model's config besides its labels: names of stuff, and of keypoints."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from models.errors import ModelError, PathNotAllowedError
from models.metadata import DatasetMetadata
from models.sidecars import KEYPOINTS, STUFF_LABELS, KeypointNames
from service.repository.labels import ClassNames


def with_sidecars(
    metadata: DatasetMetadata | None,
    folder: Path,
    *,
    num_stuff_classes: int,
    num_keypoints: int,
    root: Path | None = None,
    stuff_key: str = "MODEL.SEM_SEG_HEAD.NUM_CLASSES",
) -> DatasetMetadata | None:
    """What is known of a model's data sets, with what the files in ``folder`` say in its place.

    Args:
        metadata: of the data sets that the config names.
        folder: of the config; of the weights where the config is no file.
        num_stuff_classes: of a panoptic model's semantic head; 0 looks for no names of stuff.
        num_keypoints: of an object; 0 looks for no names of keypoints.
        root: a folder that the files must lie in, symlinks resolved; None trusts them.
        stuff_key: of the config, that says how many classes the semantic head has; for messages.

    Raises:
        PathNotAllowedError: a file leads out of ``root``.
        ModelError: a file cannot be read, or names another number than the model has.
    """
    known = metadata or DatasetMetadata("")
    if num_stuff_classes and (path := _file(folder, STUFF_LABELS, root)) is not None:
        stuff = ClassNames.find(path, config=None, num_classes=num_stuff_classes, key=stuff_key)
        known = replace(known, stuff_classes=stuff.names)
    if num_keypoints and (path := _file(folder, KEYPOINTS, root)) is not None:
        found = KeypointNames.read(path)
        if len(found.names) != num_keypoints:
            raise ModelError(
                f"{KEYPOINTS} has {len(found.names)} names, but the model has {num_keypoints} keypoints "
                "(MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS); give one for each, in their order.",
                names=len(found.names),
                keypoints=num_keypoints,
            )
        known = replace(
            known,
            keypoint_names=found.names,
            keypoint_flip_map=found.flip_map,
            keypoint_skeleton=found.skeleton,
        )
    return metadata if known == DatasetMetadata("") else known


def _file(folder: Path, name: str, root: Path | None) -> Path | None:
    path = folder / name
    if not path.is_file():
        return None
    if root is not None and not path.resolve().is_relative_to(root.resolve()):
        raise PathNotAllowedError(f"The file {name!r} is outside the model folder. Move it there.")
    return path

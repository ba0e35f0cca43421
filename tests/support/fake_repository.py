"""A model repository on disk whose versions are fake: a weights file holds the detector's number.

The names of the fake's classes come from ``labels.txt``, so that versions can differ in them.
"""

import hashlib
from pathlib import Path
from typing import Any

from fake_detector import NAMES, FakeDetector, FakeLoader

from models.errors import CheckpointError
from service.repository.disk.manifest import Manifest
from service.repository.source import ModelSource


class FolderLoader(FakeLoader):
    """Makes the detector that the weights file describes.

    Attributes:
        described: further fields of the descriptions, by the detector's number.
    """

    def __init__(self) -> None:
        super().__init__()
        self.described: dict[int, dict[str, Any]] = {}

    def __call__(self, source: ModelSource) -> FakeDetector:
        content = source.weights.read_bytes()
        try:
            number = int(content.split()[0])
        except (ValueError, IndexError):
            raise CheckpointError(f"{source.weights.name} is no checkpoint.") from None
        names = source.labels.read_text().splitlines() if source.labels else NAMES
        described = {"class_names": tuple(names)} | self.described.get(number, {})
        sha256 = hashlib.sha256(content).hexdigest()
        self.ready.append(FakeDetector(number, weights_sha256=sha256, **described))
        return super().__call__(source)


def make_version(
    root: Path,
    label: str,
    *,
    model: str = "shapes",
    number: int | None = None,
    labels: tuple[str, ...] | None = None,
    sealed: bool = True,
    files: dict[str, str] | None = None,
) -> Path:
    """Write the version ``label`` of ``model`` under ``root``.

    Args:
        number: of its detector; default: the label as a number.
        sealed: with a manifest, so that it is complete.
        files: others, by their names.
    """
    folder = root / model / label
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("made up")
    (folder / "model_final.pth").write_text(str(int(label) if number is None else number))
    if labels is not None:
        (folder / "labels.txt").write_text("\n".join(labels))
    for name, content in (files or {}).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    if sealed:
        Manifest.of(folder).write(folder)
    return folder

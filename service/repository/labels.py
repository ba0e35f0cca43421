"""Class names. A checkpoint holds none, so they come from a file, from what is known of the data
sets that the config names, or are plain placeholders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from models.errors import ModelError

SIDECAR = "labels.txt"
MAX_BYTES = 1 << 20


@dataclass(frozen=True)
class ClassNames:
    """K names, the index is the class id, and where they came from."""

    names: tuple[str, ...]
    source: str

    @classmethod
    def find(
        cls,
        labels: Path | None,
        *,
        config: Path | None,
        num_classes: int,
        known: Sequence[str] = (),
        source: str = "",
    ) -> ClassNames:
        """The first there is of: ``labels``, ``labels.txt`` beside the config, ``known``, placeholders.

        Args:
            labels: a file that the operator named.
            config: the config's file; None when it is none, as for a model of the zoo.
            num_classes: classes of the model, K.
            known: names known otherwise, from ``source``; used only if they are K.

        Raises:
            ModelError: the file cannot be read, or does not have one distinct name for each class.
        """
        if labels is None and config is not None:
            sidecar = config.parent / SIDECAR
            labels = sidecar if sidecar.is_file() else None
        if labels is not None:
            return cls(_read(labels, num_classes), labels.name)
        if len(known) == num_classes:
            return cls(tuple(known), source)
        return cls(tuple(f"class_{i}" for i in range(num_classes)), "placeholder")


def _read(path: Path, num_classes: int) -> tuple[str, ...]:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ModelError(f"The labels file {path.name} is over {MAX_BYTES} bytes.")
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = "it is not UTF-8 text" if isinstance(error, ValueError) else error.strerror
        raise ModelError(f"The labels file {path.name} cannot be read: {reason}.") from None
    names = [line.strip() for line in lines]
    while names and not names[-1]:
        names.pop()
    if "" in names:
        raise ModelError(
            f"Line {names.index('') + 1} of {path.name} is empty; give one name a line."
        )
    if len(names) != num_classes:
        raise ModelError(
            f"The labels file {path.name} has {len(names)} names, but the model has {num_classes} "
            "classes (MODEL.ROI_HEADS.NUM_CLASSES); give one name a line, in the order of the ids.",
            names=len(names),
            classes=num_classes,
        )
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ModelError(f"The labels file {path.name} has the name {name!r} twice.", name=name)
        seen.add(name)
    return tuple(names)

"""Class names. A checkpoint holds none, so they come from the version's settings, from a file, from
what is known of the data sets that the config names, or are plain placeholders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from models.errors import ModelError, PathNotAllowedError
from models.files import open_regular
from service.repository.model_settings import FILE_NAME

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
        settings: Sequence[str] | None = None,
        known: Sequence[str] = (),
        source: str = "",
        root: Path | None = None,
        key: str = "MODEL.ROI_HEADS.NUM_CLASSES",
    ) -> ClassNames:
        """The first there is of: ``settings``, ``labels``, ``labels.txt`` beside the config, ``known``,
        placeholders.

        Args:
            labels: a file that the operator named.
            config: the config's file; None when it is none, as for a model of the zoo.
            num_classes: classes of the model, K.
            settings: distinct names of a ``model.yaml``.
            known: names known otherwise, from ``source``; used only if they are K.
            root: a folder that ``labels.txt`` must lie in, symlinks resolved; None trusts it.
            key: of the config, that says how many classes there are; for messages.

        Raises:
            PathNotAllowedError: ``labels.txt`` leads out of ``root``.
            ModelError: the file cannot be read, or does not have one distinct name for each class.
        """
        if settings is not None:
            _require_count(
                settings,
                num_classes,
                f"The list classes of {FILE_NAME}",
                "give one entry for each",
                key,
            )
            return cls(tuple(settings), FILE_NAME)
        if labels is None and config is not None:
            sidecar = config.parent / SIDECAR
            labels = sidecar if sidecar.is_file() else None
            if labels and root and not labels.resolve().is_relative_to(root.resolve()):
                raise PathNotAllowedError(
                    f"The labels file {SIDECAR!r} is outside the model folder. Move it there."
                )
        if labels is not None:
            return cls(_read(labels, num_classes, key), labels.name)
        if len(known) == num_classes:
            return cls(tuple(known), source)
        return cls(tuple(f"class_{i}" for i in range(num_classes)), "placeholder")


def _read(path: Path, num_classes: int, key: str) -> tuple[str, ...]:
    try:
        with open_regular(path) as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise ModelError(f"The labels file {path.name} is over {MAX_BYTES} bytes.")
        lines = content.decode("utf-8-sig").splitlines()
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
    _require_count(names, num_classes, f"The labels file {path.name}", "give one name a line", key)
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ModelError(f"The labels file {path.name} has the name {name!r} twice.", name=name)
        seen.add(name)
    return tuple(names)


def _require_count(
    names: Sequence[str], num_classes: int, where: str, remedy: str, key: str
) -> None:
    if len(names) != num_classes:
        raise ModelError(
            f"{where} has {len(names)} names, but the model has {num_classes} classes "
            f"({key}); {remedy}, in the order of the ids.",
            names=len(names),
            classes=num_classes,
        )

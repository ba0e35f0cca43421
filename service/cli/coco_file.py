"""``detserve predict --coco``: COCO's list of results, written image by image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import orjson

from service.encoding.formats.coco import coco_results, image_ids
from service.inference.detector import ModelDescription


class CocoFile:
    """An open file of results; a context that ends the list.

    Args:
        path: the file; its folder is made.
        names: of all images, in their order; the numbers that they are called by become their ids.
        model: whose instances they are.

    Raises:
        OSError: it cannot be written.
    """

    def __init__(self, path: Path, names: Sequence[str], model: ModelDescription) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._ids = image_ids(names)
        self._names = names
        self._model = model
        self._file = path.open("wb")
        self._separator = b"["

    @property
    def numbering(self) -> str:
        """What an ``image_id`` is, for people."""
        if self._ids == list(range(len(self._names))):
            return "image_id counts the images from 0, in their order"
        return "image_id is the number in a file's name"

    def add(self, index: int, instances: Mapping[str, Any]) -> None:
        """The instances of one image, encoded with ``boxes=xyxy`` and ``masks=rle``."""
        results = coco_results(instances, self._model, image_id=self._ids[index])
        if results:
            data = orjson.dumps(results, option=orjson.OPT_SERIALIZE_NUMPY)
            self._file.write(self._separator + data[1:-1])
            self._separator = b",\n"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._file:
            self._file.write(b"[]" if self._separator == b"[" else b"]")

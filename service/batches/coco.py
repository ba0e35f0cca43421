"""The results of a job as COCO's list of results, line by line: however many, few are in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import numpy as np
import orjson

from service.batches.job import BatchJob
from service.encoding.formats.coco import coco_results, image_ids
from service.inference.detector import ModelDescription

_ARRAYS = {
    "pred_boxes": np.float32,
    "pred_classes": np.int64,
    "scores": np.float32,
    "pred_keypoints": np.float32,
}


async def coco_stream(job: BatchJob) -> AsyncIterator[bytes]:
    """The JSON of a job that has succeeded, with ``boxes=xyxy`` and ``masks=rle`` or ``none``; images
    with an error have no results."""
    ids = image_ids(job.source.names)
    descriptions = dict(job.descriptions)
    separator, rest = b"[", b""
    async for chunk in job.results():
        *lines, rest = (rest + chunk).split(b"\n")
        results = await asyncio.to_thread(_results, lines, ids, descriptions)
        if results:
            yield separator + results
            separator = b","
    yield b"[]" if separator == b"[" else b"]"


def _results(
    lines: Sequence[bytes], ids: Sequence[int], descriptions: Mapping[str, ModelDescription]
) -> bytes:
    """The results in some lines, with commas between them."""
    found: list[dict[str, Any]] = []
    for line in lines:
        content = orjson.loads(line)
        instances = content.get("instances")
        if instances is not None:
            arrays = {
                key: np.array(instances[key], dtype=dtype)
                for key, dtype in _ARRAYS.items()
                if key in instances
            }
            if not arrays["scores"].size:
                continue
            model = descriptions[content["model"]["version"]]
            found += coco_results(instances | arrays, model, image_id=ids[content["index"]])
    return orjson.dumps(found, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1]

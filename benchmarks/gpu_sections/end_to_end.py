"""From the bytes of JPEGs to the bytes of JSON, in one process, without a web server."""

from __future__ import annotations

import io
import itertools
import json
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision.io
from numpy.typing import NDArray
from PIL import Image

from gpu_sections.setting import Setting, pictures, seeded_predictor
from models.execution import Mode
from models.layers.mask_runs import encode_pasted_masks
from models.wanted import Wanted
from service.inference.detector import Prediction, PreparedImage
from service.inference.torch_detector import TorchDetector
from service.repository.labels import ClassNames

try:
    import simplejpeg
except ImportError:  # the device's machine need not have it: torchvision's pixels are the same
    simplejpeg = None
try:
    import orjson
except ImportError:  # nor this: the standard library is slower
    orjson = None

HEIGHT, WIDTH, QUALITY = 1080, 1920, 90
INSTANCES = 20
WAITING_BATCHES = 4
MODES: tuple[Mode, ...] = ("exact", "fast")
FULL_SIZE = ("INPUT.MIN_SIZE_TEST", 800, "INPUT.MAX_SIZE_TEST", 1333)


def end_to_end(setting: Setting) -> dict[str, Any]:
    """Images a second through decode, preparation, batches, and encoding with 20 masks each."""
    results: dict[str, Any] = {
        "decoder": "simplejpeg" if simplejpeg else "torchvision",
        "json": "orjson" if orjson else "standard library",
        "threads": setting.threads,
        "images": setting.jpegs,
    }
    jpegs = [_as_jpeg(picture) for picture in pictures(min(16, setting.jpegs), HEIGHT, WIDTH)]
    size = FULL_SIZE if setting.on_gpu else ("INPUT.MIN_SIZE_TEST", min(setting.size))
    torch.set_num_threads(
        1
    )  # of operators on the host: decoding and encoding have their own threads
    for mode in MODES:
        setting.check_time()
        detector = _detector(setting, mode, size)
        detector.warm_up([detector.prepare(pictures(1, HEIGHT, WIDTH)[0]).padded_size])
        for batch in [n for n in setting.batches if n >= min(4, max(setting.batches))]:
            setting.check_time()
            _run(detector, jpegs, 2 * batch, batch, setting.threads)
            started, cpu = time.perf_counter(), time.process_time()
            replies = _run(detector, jpegs, setting.jpegs, batch, setting.threads)
            seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
            found = [len(json.loads(reply)["scores"]) for reply in replies]
            results[f"{mode} batch {batch}"] = {
                "ran_in": detector.description.execution["mode"],
                "graphs": detector.description.execution["cuda_graphs"],
                "images_per_s": round(len(replies) / seconds, 1),
                "cpu_ms_per_image": round(1000 * cpu / len(replies), 2),
                "instances": round(sum(found) / len(found), 1),
                "reply_bytes": round(sum(map(len, replies)) / len(replies)),
            }
        detector.close()
    return results


def warm_up(setting: Setting) -> dict[str, Any]:
    """What the warm-up of a server takes: seconds, graphs and memory."""
    results = {}
    for mode in MODES:
        setting.check_time()
        detector = _detector(setting, mode, FULL_SIZE)
        free, _ = torch.cuda.mem_get_info(setting.device)
        started = time.perf_counter()
        detector.warm_up()
        seconds = time.perf_counter() - started
        results[mode] = {
            "warm_up_s": round(seconds, 1),
            "graphs": detector.description.execution["cuda_graphs"],
            "mib": (free - torch.cuda.mem_get_info(setting.device)[0]) // 2**20,
        }
        detector.close()
    return results


def _detector(setting: Setting, mode: Mode, size: tuple[Any, ...]) -> TorchDetector:
    predictor = seeded_predictor("mask_rcnn", setting, mode, size)
    names = ClassNames(tuple(map(str, range(80))), "placeholder")
    return TorchDetector(predictor, names, config_name="", weights_file=Path("seeded weights"))


def _run(
    detector: TorchDetector, jpegs: list[bytes], number: int, batch: int, threads: int
) -> list[bytes]:
    """The replies to ``number`` pictures: worker threads around the one that owns the model."""
    replies: list[Future[bytes]] = []
    with ThreadPoolExecutor(threads) as workers:
        prepared = _prepared(
            detector, itertools.islice(itertools.cycle(jpegs), number), workers, batch
        )
        while images := list(itertools.islice(prepared, batch)):
            for prediction in detector.infer(images):
                replies.append(workers.submit(_encode, prediction))
        return [reply.result() for reply in replies]


def _prepared(
    detector: TorchDetector, jpegs: Iterator[bytes], workers: ThreadPoolExecutor, batch: int
) -> Iterator[PreparedImage]:
    """Pictures ready to run, in order, a few batches ahead of whoever asks for them."""

    def prepare(content: bytes) -> PreparedImage:
        image = detector.prepare(_decode(content))
        return replace(image, wanted=Wanted(max_detections=INSTANCES))

    waiting = [
        workers.submit(prepare, content)
        for content in itertools.islice(jpegs, WAITING_BATCHES * batch)
    ]
    while waiting:
        yield waiting.pop(0).result()
        waiting += [workers.submit(prepare, content) for content in itertools.islice(jpegs, 1)]


def _decode(content: bytes) -> NDArray[np.uint8]:
    if simplejpeg:
        pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(content, "RGB")
        return pixels
    data = torch.frombuffer(bytearray(content), dtype=torch.uint8)
    image = torchvision.io.decode_jpeg(data, mode=torchvision.io.ImageReadMode.RGB)
    return image.permute(1, 2, 0).contiguous().numpy()


def _encode(prediction: Prediction) -> bytes:
    """As the service encodes it, by the same functions of ``models``."""
    instances = prediction.instances
    assert instances is not None
    boxes = instances.pred_boxes.tensor.contiguous()
    answer: dict[str, Any] = {
        "pred_boxes": boxes.numpy(),
        "pred_classes": instances.pred_classes.contiguous().numpy(),
        "scores": instances.scores.contiguous().numpy(),
        "masks": encode_pasted_masks(instances.pred_masks[:, 0], boxes, instances.image_size),
    }
    if orjson:
        encoded: bytes = orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)
        return encoded
    return json.dumps(answer, default=lambda array: array.tolist()).encode()


def _as_jpeg(picture: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=QUALITY)
    return file.getvalue()

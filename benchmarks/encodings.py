"""How large an answer is in each form, and what it costs to encode: 100 instances of 1920x1080.

    python benchmarks/encodings.py

The model's answer is given; from there to the bytes of the response, on one thread. The forms take
turns within a round, so that whatever else the machine does hits all alike; the least of all rounds
counts. Sizes are given as they are and as a proxy would send them, by gzip. An annotated picture
includes decoding the JPEG again.
"""

from __future__ import annotations

import argparse
import gzip
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

REPOSITORY = Path(__file__).parent.parent
sys.path[:0] = [
    str(REPOSITORY),
    str(REPOSITORY / "benchmarks"),
    str(REPOSITORY / "benchmarks" / "servers"),
    str(REPOSITORY / "tests" / "support"),
]

from fake_detector import FakeDetector  # noqa: E402  # see the path above
from host_path import HEIGHT, WIDTH, natural_jpeg, soft_masks  # noqa: E402  # see the path above
from reporting import machine, versions, write_result  # noqa: E402  # see the path above

from models.structures import Boxes, Instances  # noqa: E402  # see the path above
from service.encoding.formats.answered import Answered  # noqa: E402  # see the path above
from service.encoding.formats.negotiation import options_for  # noqa: E402  # see the path above
from service.encoding.formats.pictures import (  # noqa: E402  # see the path above
    PICTURES,
    encode_picture,
)
from service.encoding.formats.rendering import render  # noqa: E402  # see the path above
from service.encoding.instances import Selection, encode_prediction  # noqa: E402  # see above
from service.images import ImageLimits, decode_image  # noqa: E402  # see the path above
from service.inference.detector import Prediction  # noqa: E402  # see the path above
from service.inference.pipeline import ImageAnswer  # noqa: E402  # see the path above
from service.repository.version import ModelVersion  # noqa: E402  # see the path above
from service.schemas.options import FormatName, PredictOptions  # noqa: E402  # see the path above

FORMS: dict[str, dict[str, str]] = {
    "masks=none": {"masks": "none"},
    "masks=rle": {"masks": "rle"},
    "masks=polygon": {"masks": "polygon"},
    "masks=png": {"masks": "png"},
    "masks=bitmap": {"masks": "bitmap"},
    "format=coco": {"format": "coco"},
    "format=csv": {"format": "csv"},
    "format=geojson": {"format": "geojson"},
    "format=png": {"format": "png"},
    "format=jpeg": {"format": "jpeg"},
    "format=webp": {"format": "webp"},
}


def found(number: int) -> Prediction:
    """So many instances with soft masks, as a Mask R-CNN gives them."""
    masks, boxes = soft_masks(number)
    instances = Instances((HEIGHT, WIDTH))
    instances.pred_boxes = Boxes(boxes)
    instances.scores = torch.linspace(0.99, 0.06, number)
    instances.pred_classes = torch.arange(number) % 4
    instances.pred_masks = masks[:, None]
    return Prediction(instances=instances)


def encoder(given: dict[str, str], prediction: Prediction, jpeg: bytes) -> Callable[[], bytes]:
    """From the model's answer to the bytes of the response."""
    version = ModelVersion("model", "1", FakeDetector())
    model = version.detector.description
    parsed = PredictOptions.parse(given)
    chosen: FormatName = parsed.format or "json"
    options = options_for(chosen, parsed)

    def encode() -> bytes:
        selection = Selection.resolve(options, model)
        outputs: dict[str, Any]
        if chosen in PICTURES:
            pixels = decode_image(jpeg, ImageLimits()).pixels
            outputs = {"picture": encode_picture(pixels, prediction, selection, model, chosen)}
        else:
            outputs = encode_prediction(prediction, selection, model)
        answer = ImageAnswer("photo.jpg", WIDTH, HEIGHT, outputs, batch_size=1)
        return render(Answered("4f1c0a", version, [answer], 0.1), chosen)

    return encode


def measure(number: int, rounds: int) -> dict[str, dict[str, float]]:
    """Per form the bytes of the response, and the milliseconds it takes, least and median."""
    prediction, jpeg = found(number), natural_jpeg()
    encoders = {name: encoder(given, prediction, jpeg) for name, given in FORMS.items()}
    bodies = {name: encode() for name, encode in encoders.items()}  # and warm up
    times: dict[str, list[float]] = {name: [] for name in encoders}
    for _ in range(rounds):
        for name, encode in encoders.items():
            started = time.thread_time()
            encode()
            times[name].append((time.thread_time() - started) * 1000)
    return {
        name: {
            "bytes": len(body),
            "gzip_bytes": len(gzip.compress(body, 6)),
            "cpu_ms_least": round(min(times[name]), 2),
            "cpu_ms_median": round(statistics.median(times[name]), 2),
        }
        for name, body in bodies.items()
    }


def main() -> None:
    """Measure, show and write down."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--instances", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=15)
    default = REPOSITORY / "benchmarks" / "results" / "encodings.json"
    parser.add_argument("--out", type=Path, default=default)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    results = measure(arguments.instances, arguments.rounds)
    table = Table("form", "kB", "kB, gzip", "CPU ms, least", "median")
    for name, figures in results.items():
        sizes = (f"{figures[key] / 1000:.1f}" for key in ("bytes", "gzip_bytes"))
        costs = (f"{figures[key]:.1f}" for key in ("cpu_ms_least", "cpu_ms_median"))
        table.add_row(name, *sizes, *costs)
    Console().print(table)
    settings = {
        "instances": arguments.instances,
        "rounds": arguments.rounds,
        "size": [HEIGHT, WIDTH],
    }
    write_result(
        arguments.out,
        {
            "what": "Bytes of a response, and CPU ms from the model's answer to them, one thread",
            "machine": machine(),
            "versions": versions(),
            "settings": settings,
            "results": results,
        },
    )


if __name__ == "__main__":
    main()

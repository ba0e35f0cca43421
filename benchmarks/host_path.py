"""What a picture costs outside of the network: CPU time per stage, ours against the usual way.

    python benchmarks/host_path.py

A JPEG of 1920x1080 goes in, JSON bytes with 100 masks come out; in between, the model's answer is
given. Each side works in a process of its own with one thread, as it is run in production (ours with
its allocator tuned); the sides take turns within a round, so that whatever else the machine does
hits all alike. The usual way is what a hand-made service does: Pillow decodes and resizes, each mask
is pasted into a full frame and encoded by pycocotools, ``json.dumps`` writes lists.
"""

from __future__ import annotations

import argparse
import io
import json
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable
from importlib import metadata
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.progress import track
from rich.table import Table

REPOSITORY = Path(__file__).parent.parent
sys.path[:0] = [
    str(REPOSITORY),
    str(REPOSITORY / "benchmarks" / "servers"),
    str(REPOSITORY / "tests" / "support"),
]

from reporting import machine, versions, write_result  # noqa: E402  # see the path above

HEIGHT, WIDTH = 1080, 1920
MIN_SIZE, MAX_SIZE = 800, 1333
QUALITY = 90
SIDES = ("typical", "pil", "fast")
STAGES = ("decode", "resize", "masks", "json")
TARGET_MS = {"pil": 40, "fast": 25}
# Figure to reach: no call within the encoding of masks keeps other threads waiting for longer.
LONGEST_LINE_MS = 1.0


def natural_jpeg() -> bytes:
    """A picture with the spectrum of photographs (power falls with frequency) and a sensor's noise."""
    rng = np.random.default_rng(0)
    frequency = np.hypot(np.fft.fftfreq(HEIGHT)[:, None], np.fft.rfftfreq(WIDTH)[None])
    frequency[0, 0] = 1
    planes = []
    for _ in range(3):
        phases = rng.normal(size=frequency.shape) + 1j * rng.normal(size=frequency.shape)
        plane = np.fft.irfft2(phases / frequency**1.35, s=(HEIGHT, WIDTH))
        planes.append(plane / plane.std())
    colour = np.stack([0.8 * planes[0] + 0.2 * plane for plane in planes], axis=2)
    pixels = 128 + 45 * colour + rng.normal(scale=1.6, size=colour.shape)
    file = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=QUALITY)
    return file.getvalue()


def soft_masks(number: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(R, 28, 28) blobs and (R, 4) boxes, their sides log-uniform from 20 to 480 pixels."""
    rng = np.random.default_rng(0)
    sides = np.exp(rng.uniform(np.log(20), np.log(480), (number, 1))) * np.exp(
        rng.uniform(-0.4, 0.4, (number, 1)) * np.array([1, -1])
    )
    corners = rng.uniform(0, 1, (number, 2)) * (np.array([WIDTH, HEIGHT]) - sides)
    y, x = np.mgrid[:28, :28] - 13.5
    angle, radius = np.arctan2(y, x), np.hypot(y, x)
    masks = []
    for _ in range(number):
        waves = np.arange(1, 7)[:, None, None]
        phases = rng.uniform(0, 2 * np.pi, (6, 1, 1))
        rim = 9 + (rng.normal(size=(6, 1, 1)) * 2 / waves * np.cos(waves * angle + phases)).sum(0)
        masks.append(1 / (1 + np.exp(1.5 * (radius - rim))))
    boxes = np.concatenate((corners, corners + sides), axis=1)
    return torch.tensor(np.array(masks)).float(), torch.tensor(boxes).float()


def typical_side(number: int) -> dict[str, Callable[[Any], Any]]:
    """The stages as they are usually written; each takes what the one before it gave."""
    import pycocotools.mask as coco

    from models.layers import paste_masks_in_image
    from models.transforms import resized_size

    data = natural_jpeg()
    masks, boxes = soft_masks(number)
    height, width = resized_size(HEIGHT, WIDTH, MIN_SIZE, MAX_SIZE)

    def decode(_: Any) -> np.ndarray:
        return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))

    def resize(pixels: np.ndarray) -> torch.Tensor:
        resized = np.asarray(Image.fromarray(pixels).resize((width, height), Image.BILINEAR))
        return torch.as_tensor(np.ascontiguousarray(resized[:, :, ::-1].transpose(2, 0, 1)))

    def encode(_: Any) -> dict[str, Any]:
        frames = paste_masks_in_image(masks, boxes, (HEIGHT, WIDTH)).numpy()
        encoded = []
        for frame in frames:
            rle = coco.encode(np.array(frame[:, :, None], order="F", dtype="uint8"))[0]
            encoded.append({"size": rle["size"], "counts": rle["counts"].decode()})
        return {"boxes": boxes.tolist(), "scores": [0.9] * number, "masks": encoded}

    return {"decode": decode, "resize": resize, "masks": encode, "json": _dumps}


def _dumps(answer: dict[str, Any]) -> bytes:
    return json.dumps(answer).encode()


def our_side(number: int, resize: str) -> dict[str, Callable[[Any], Any]]:
    """The stages as the service has them, from the same functions."""
    import orjson
    from fake_detector import FakeDetector

    from models.predictor import Preprocessing
    from models.structures import Boxes, Instances
    from service.allocator import keep_large_buffers
    from service.encoding.instances import Selection, encode_prediction
    from service.images import ImageLimits, decode_image
    from service.inference.detector import Prediction
    from service.schemas.options import PredictOptions

    keep_large_buffers()
    data = natural_jpeg()
    masks, boxes = soft_masks(number)
    prepare: Any = Preprocessing("BGR", MIN_SIZE, MAX_SIZE, 32, resize)  # type: ignore[arg-type]  # of two
    instances = Instances((HEIGHT, WIDTH), pred_boxes=Boxes(boxes), pred_masks=masks[:, None])
    instances.scores = torch.full((number,), 0.9)
    instances.pred_classes = torch.zeros(number, dtype=torch.int64)
    prediction = Prediction(instances=instances)
    model = FakeDetector(max_detections=number).description
    selection = Selection.resolve(PredictOptions.parse({}), model)
    return {
        "decode": lambda _: decode_image(data, ImageLimits()).pixels,
        "resize": prepare,
        "masks": lambda _: encode_prediction(prediction, selection, model),
        "json": lambda answer: orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY),
    }


def serve_side(pipe: Connection, side: str, number: int) -> None:
    """A side's process: at each "go" all stages once, their CPU milliseconds back."""
    torch.set_num_threads(1)
    stages = typical_side(number) if side == "typical" else our_side(number, side)
    while (wanted := pipe.recv()) != "stop":
        if wanted == "longest line":
            pipe.send(longest_line(lambda: stages["masks"](None)))
            continue
        times, value = {}, None
        for name, stage in stages.items():
            started = time.process_time()
            value = stage(value)
            times[name] = (time.process_time() - started) * 1000
        pipe.send(times)


def longest_line(call: Callable[[], Any]) -> float:
    """CPU milliseconds of the longest single line of Python within ``call``.

    No other thread waits longer for the interpreter's lock, since it can change hands between lines.
    Lines that call Python functions count by those functions' lines; each counts by its least over
    several runs, to leave out what the machine did meanwhile.
    """
    least: dict[Any, float] = {}
    for _ in range(20):
        lines: dict[Any, float] = {}
        current: Any = None
        since = 0.0

        def trace(frame: FrameType, event: str, _: Any) -> Any:
            nonlocal current, since
            spent = time.thread_time() - since
            if current is not None:
                lines[current] = max(lines.get(current, 0.0), spent)  # noqa: B023  # called within its round only
            current = (frame.f_code, frame.f_lineno) if event == "line" else None
            since = time.thread_time()
            return trace

        sys.settrace(trace)
        call()
        sys.settrace(None)
        for line, spent in lines.items():
            least[line] = min(least.get(line, spent), spent)
    return max(least.values()) * 1000


def measure(number: int, rounds: int) -> dict[str, Any]:
    """Per side and stage the CPU milliseconds over rounds, and of ours the longest line of masks."""
    context = multiprocessing.get_context("spawn")
    pipes = {}
    for side in SIDES:
        ours, theirs = context.Pipe()
        context.Process(target=serve_side, args=(theirs, side, number), daemon=True).start()
        pipes[side] = ours
    times: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
    for round_number in track(range(rounds + 2), "Measuring"):
        for side, pipe in pipes.items():
            pipe.send("go")
            found = pipe.recv()
            if round_number >= 2:  # the first two warm up
                times[side].append(found | {"total": sum(found.values())})
    result = {side: _summary(found) for side, found in times.items()}
    for side in TARGET_MS:
        pipes[side].send("longest line")
        result[side]["longest_line_of_masks"] = round(pipes[side].recv(), 2)
    for pipe in pipes.values():
        pipe.send("stop")
    return result


def _summary(rounds: list[dict[str, float]]) -> dict[str, Any]:
    return {
        stage: {
            "least": round(min(values), 2),
            "median": round(statistics.median(values), 2),
            "most": round(max(values), 2),
        }
        for stage in (*STAGES, "total")
        if (values := [found[stage] for found in rounds])
    }


def main() -> None:
    """Measure, print the table and write the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--masks", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument(
        "--out", type=Path, default=REPOSITORY / "benchmarks" / "results" / "host-path.json"
    )
    arguments = parser.parse_args()
    sides = measure(arguments.masks, arguments.rounds)
    table = Table(title=f"CPU ms per image on one core, least of {arguments.rounds} rounds")
    table.add_column("stage")
    for side in SIDES:
        table.add_column(side if side == "typical" else f"detserve, resize={side}", justify="right")
    for stage in (*STAGES, "total"):
        table.add_row(stage, *(f"{sides[side][stage]['least']:.2f}" for side in SIDES))
    Console().print(table)
    longest = max(sides[side]["longest_line_of_masks"] for side in TARGET_MS)
    print(f"Longest single line of Python within our masks: {longest:.2f} ms of CPU")
    _, boxes = soft_masks(arguments.masks)
    area = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).sum()
    packages = ("numpy", "simplejpeg", "pycocotools")
    typical = sides["typical"]["total"]["least"]
    write_result(
        arguments.out,
        {
            "what": "CPU ms per image outside of the network, one core: JPEG bytes to JSON bytes",
            "machine": machine(),
            "versions": versions() | {name: metadata.version(name) for name in packages},
            "picture": {
                "size": [HEIGHT, WIDTH],
                "jpeg_bytes": len(natural_jpeg()),
                "masks": arguments.masks,
                "megapixels_of_boxes": round(float(area) / 1e6, 2),
                "resized_to": [MIN_SIZE, MAX_SIZE],
            },
            "rounds": arguments.rounds,
            "sides": sides,
            "typical_over_ours": {
                side: round(typical / sides[side]["total"]["least"], 1) for side in TARGET_MS
            },
            "targets_ms": TARGET_MS,
            "reached": {
                side: sides[side]["total"]["least"] <= most for side, most in TARGET_MS.items()
            }
            | {"longest_line": longest <= LONGEST_LINE_MS},
        },
    )


if __name__ == "__main__":
    main()

"""``detserve predict``: images to JSON and annotated pictures, without a server."""

from __future__ import annotations

import asyncio
import collections
import functools
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console
from rich.progress import BarColumn as Bar
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from models import zoo
from models.errors import ModelError
from models.execution import MODES
from service.allocator import keep_large_buffers
from service.batches.sources import ImageFiles, find_images
from service.cli.coco_file import CocoFile
from service.encoding.annotate import annotate
from service.encoding.instances import Selection, encode_prediction
from service.errors import ApiError, Unprocessable
from service.images import ImageLimits, decode_image
from service.inference.detector import Detector
from service.inference.loading import load_torch_detector
from service.inference.preparation import Preparation, RequestShare, Seen
from service.inference.scheduler import Scheduler
from service.inference.threads import Workers, divide_cores
from service.inference.traffic import TrafficShapes
from service.inference.windows.placing import place
from service.inference.windows.progress import Progress as Parts
from service.inference.windows.tiled import TiledRunner
from service.inference.windows.window import Window
from service.inference.work import Inference
from service.metrics import Metrics
from service.plugins import import_plugins, split_paths
from service.repository.version import ModelVersion, RequestLease
from service.schemas.options import PredictOptions
from service.settings import PRETRAINED, WEIGHTS_MISSING

console = Console(stderr=True, highlight=False, soft_wrap=True)

LIMITS = ImageLimits()
MAX_BATCH_SIZE = 8
MAX_BATCH_PIXELS = 16_000_000
MAX_TILES = 10_000
IN_FLIGHT = 2 * MAX_BATCH_SIZE
"""Images: a batch that runs, and one that is ready when it has."""


def run(
    images: Sequence[Path],
    *,
    out: Path,
    config: Path | None,
    zoo_name: str | None,
    weights: Path | None,
    labels: Path | None,
    device: str,
    mode: str,
    options: Mapping[str, Any],
    plugins: Sequence[Path] = (),
    recursive: bool = False,
    coco: Path | None = None,
    pictures: bool = True,
) -> int:
    """Predict every image; exits with 0 if all could be used, 1 if some not, 2 if none was tried.

    Args:
        images: files, folders and patterns, see :func:`service.batches.sources.find_images`.
        out: folder of a JSON and a picture for each.
        recursive: take the folders in folders too.
        options: of ``POST /predict``; None is one that is not given.
        coco: file for the results of all images in COCO's form.
        pictures: whether there is an annotated picture for each.
    """
    if zoo_name is not None and config is not None:
        return _fail("--config and --zoo exclude each other: a model has one config.")
    if zoo_name is not None and weights is None:
        return _fail(WEIGHTS_MISSING)
    if config is not None and weights is None:
        return _fail("--config needs --weights too: a model is a config and its weights.")
    if mode not in MODES:
        return _fail(f"--mode is one of {', '.join(MODES)}, not {mode!r}.")
    keep_large_buffers()
    try:
        source = ImageFiles(find_images(images, recursive=recursive, leave_out=out))
        stems = _unique_stems(source.paths)
        if pictures:
            _check_outputs(source.paths, out, stems)
        parsed = PredictOptions.parse({k: v for k, v in options.items() if v is not None})
        if coco is not None and (parsed.boxes != "xyxy" or parsed.masks not in ("rle", "none")):
            return _fail("--coco needs --boxes xyxy and --masks rle or none, COCO's own forms.")
        import_plugins(split_paths(plugins))
        named = zoo.get(zoo_name) if zoo_name is not None else config
        if weights is None:
            named, weights = PRETRAINED / "config.yaml", PRETRAINED / "model_final.pth"
        with console.status("Loading the model ..."):
            detector = load_torch_detector(
                config=named,
                weights=weights,
                labels=labels,
                device=device,
                mode=mode,
            )
        if detector.description.takes_proposals:
            return _fail("This model takes its proposals with each image; serve it and send them.")
        Selection.resolve(parsed, detector.description)
        out.mkdir(parents=True, exist_ok=True)
    except (ModelError, ApiError) as error:
        return _fail(error.message)
    except OSError as error:
        return _fail(f"The folder {out} cannot be made: {error.strerror}.")
    if coco is None:
        return _run_all(detector, parsed, source, out, stems, None, pictures)
    if "instances" not in detector.description.outputs:
        return _fail("--coco tells instances, and this model finds none.")
    try:
        file = CocoFile(coco, source.names, detector.description)
    except OSError as error:
        return _fail(f"{coco} cannot be written: {error.strerror}.")
    with file:
        code = _run_all(detector, parsed, source, out, stems, file, pictures)
    console.print(f"COCO results -> {coco}; {file.numbering}.", markup=False)
    return code


def _run_all(
    detector: Detector,
    options: PredictOptions,
    source: ImageFiles,
    out: Path,
    stems: Sequence[str],
    coco: CocoFile | None,
    pictures: bool,
) -> int:
    """Predict all images; the exit code."""
    predictor = _Predictor(detector, options, out, pictures=pictures)
    try:
        return asyncio.run(_predict_all(predictor, source, stems, coco))
    finally:
        predictor.close()


async def _predict_all(
    predictor: _Predictor, source: ImageFiles, stems: Sequence[str], coco: CocoFile | None
) -> int:
    """Predict some at a time and tell of them in their order, with a bar; the exit code."""
    failed = 0
    waiting: collections.deque[asyncio.Task[dict[str, Any]]] = collections.deque()
    columns = (TextColumn("{task.description}"), Bar(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("Predicting", total=len(stems))
        for index, path in enumerate(source.paths):
            for later in range(index + len(waiting), min(index + IN_FLIGHT, len(stems))):
                read = functools.partial(source.read, later)
                work = predictor.predict(source.paths[later], read, stems[later])
                waiting.append(asyncio.create_task(work))
            try:
                encoded = await waiting.popleft()
                if coco is not None:
                    coco.add(index, encoded["instances"])
                files = f"{predictor.out / stems[index]}.json{', .png' * predictor.pictures}"
                done = f"{path}: {_found(encoded)} -> {files}"
                progress.console.print(done, markup=False)
            except ApiError as error:
                failed += 1
                progress.console.print(f"{path}: {error.message}", style="red", markup=False)
            except OSError as error:
                failed += 1
                message = f"{path}: {error.strerror}"
                progress.console.print(message, style="red", markup=False)
            progress.advance(task)
    return 1 if failed else 0


def _fail(message: str) -> int:
    console.print(f"error: {message}", style="red", markup=False)
    return 2


def _unique_stems(images: Sequence[Path]) -> list[str]:
    """Names of the outputs: the images' own without the ending, numbered where two are equal."""
    stems: dict[str, None] = {}
    for path in images:
        stem, number = path.stem, 2
        while stem in stems:
            stem, number = f"{path.stem}-{number}", number + 1
        stems[stem] = None
    return list(stems)


def _check_outputs(images: Sequence[Path], out: Path, stems: Sequence[str]) -> None:
    """Raise :class:`Unprocessable` where a picture would be written over an image."""
    inputs = {path.resolve() for path in images}
    folder = out.resolve()
    for stem in stems:
        if folder / f"{stem}.png" in inputs:
            raise Unprocessable(
                "output_is_input",
                f"The picture of {stem} would overwrite an image in {out}; name another --out.",
            )


@dataclass(frozen=True)
class _OnlyModel:
    """The model, as the scheduler sees it."""

    current: ModelVersion
    name: str = "model"
    traffic: TrafficShapes = field(default_factory=TrafficShapes)


class _Predictor:
    """The way of an image through the parts that the server's own pipeline has, to its files.

    Not that pipeline itself: it answers with JSON or with a picture, and here one inference gives both.
    The server's bounds against strangers do not hold here, but for those on a single image.

    Args:
        detector: the model.
        options: what is asked of it.
        out: folder of the files.
        pictures: whether there is an annotated one for each image.
    """

    def __init__(
        self, detector: Detector, options: PredictOptions, out: Path, *, pictures: bool
    ) -> None:
        self.out = out
        self.pictures = pictures
        self._options = options
        self._version = ModelVersion(_OnlyModel.name, "1", detector)
        self._model = _OnlyModel(self._version)
        cores = divide_cores(0, on_gpu=detector.description.device.startswith("cuda"))
        self._workers = Workers(cores.workers)
        self._scheduler = Scheduler(
            max_batch_size=MAX_BATCH_SIZE,
            max_batch_pixels=MAX_BATCH_PIXELS,
            max_wait_s=0.0,
            max_queue=sys.maxsize,
            model_threads=cores.model,
            observer=Metrics(),
        )
        self._preparation = Preparation(
            LIMITS, max_tta_pixels=sys.maxsize, max_tiles=MAX_TILES, max_places=sys.maxsize
        )
        self._tiled = TiledRunner(
            workers=self._workers, scheduler=self._scheduler, max_batch_size=MAX_BATCH_SIZE
        )
        self._share = RequestShare(images=1, workers=cores.workers, max_pixels=sys.maxsize)

    def close(self) -> None:
        """End the threads."""
        self._scheduler.close()
        self._workers.close()

    async def predict(self, path: Path, read: Callable[[], bytes], stem: str) -> dict[str, Any]:
        """Predict one file and write its outputs; what was found.

        Raises:
            ApiError: what is wrong with this image alone.
            OSError: it cannot be read, or its outputs not be written.
        """
        lease = RequestLease()
        try:
            if self._options.tiles == "none":
                async with self._share.turn:
                    data = await self._workers.run(read)
                    prepared, seen, _ = await self._workers.run(
                        self._preparation.prepare,
                        data,
                        0,
                        self._options,
                        self._share,
                        self._version,
                    )
                inference = await self._scheduler.infer(self._model, prepared, lease)
                tiles = {}
            else:
                async with self._tiled.pictures:
                    async with self._share.turn:
                        data = await self._workers.run(read)
                        picture, _ = await self._workers.run(
                            self._preparation.cut,
                            data,
                            0,
                            self._options,
                            self._share,
                            self._version,
                        )
                    found = await self._tiled.run(
                        picture, self._model, lease, self._share.turn, Parts(1, None).image()
                    )
                    del picture  # while it is encoded, its pixels may go
                inference, tiles = found.inference, {"tiles": found.tiles}
                whole = Window.whole(found.height, found.width)
                seen = Seen(whole, found.height, found.width)
        finally:
            lease.end()
        return await self._workers.finish(self._write, path, data, inference, seen, stem, tiles)

    def _write(
        self,
        path: Path,
        data: bytes,
        inference: Inference,
        seen: Seen,
        stem: str,
        tiles: Mapping[str, int],
    ) -> dict[str, Any]:
        """Encode what was found and write the outputs, on a worker."""
        description = self._version.detector.description
        selection = Selection.resolve(self._options, description)
        prediction = place(inference.prediction, seen.window, seen.height, seen.width)
        encoded = encode_prediction(prediction, selection, description)
        answer = {
            "model": {
                "architecture": description.architecture,
                "weights_file": description.weights_file,
                "weights_sha256": description.weights_sha256,
            },
            "image": {
                "name": path.name,
                "path": str(path),
                "width": seen.width,
                "height": seen.height,
            },
            **encoded,
            **tiles,
        }
        flags = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_INDENT_2
        (self.out / f"{stem}.json").write_bytes(orjson.dumps(answer, option=flags))
        if self.pictures:
            # Decoded once more: to keep the pixels of all that wait for the model would take more memory.
            pixels = decode_image(data, LIMITS).pixels
            drawn = annotate(pixels, prediction, selection, description)
            drawn.save(self.out / f"{stem}.png")
        return encoded


def _found(encoded: Mapping[str, Any]) -> str:
    """What was found, in words."""
    if "instances" in encoded:
        return f"{len(encoded['instances']['scores'])} instances"
    if "proposals" in encoded:
        return f"{len(encoded['proposals']['objectness_logits'])} proposals"
    return ", ".join(encoded)

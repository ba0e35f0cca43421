"""``detserve predict``: images to JSON and annotated pictures, without a server."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
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
from service.inference.torch_detector import load_torch_detector
from service.plugins import import_plugins, split_paths
from service.schemas.options import PredictOptions
from service.settings import PRETRAINED, WEIGHTS_MISSING

console = Console(stderr=True, highlight=False, soft_wrap=True)


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
) -> int:
    """Predict every image; exits with 0 if all could be used, 1 if some not, 2 if none was tried.

    Args:
        images: files, folders and patterns, see :func:`service.batches.sources.find_images`.
        out: folder of a JSON and a picture for each.
        recursive: take the folders in folders too.
        coco: file for the results of all images in COCO's form.
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
        _check_outputs(source.paths, out, stems)
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
        parsed = PredictOptions.parse({k: v for k, v in options.items() if v is not None})
        selection = Selection.resolve(parsed, detector.description)
        out.mkdir(parents=True, exist_ok=True)
    except (ModelError, ApiError) as error:
        return _fail(error.message)
    except OSError as error:
        return _fail(f"The folder {out} cannot be made: {error.strerror}.")
    if coco is None:
        return _predict_all(detector, selection, source, out, stems, None)
    if "instances" not in detector.description.outputs:
        return _fail("--coco tells instances, and this model finds none.")
    try:
        file = CocoFile(coco, source.names, detector.description)
    except OSError as error:
        return _fail(f"{coco} cannot be written: {error.strerror}.")
    with file:
        code = _predict_all(detector, selection, source, out, stems, file)
    console.print(f"COCO results -> {coco}; {file.numbering}.", markup=False)
    return code


def _predict_all(
    detector: Detector,
    selection: Selection,
    source: ImageFiles,
    out: Path,
    stems: Sequence[str],
    coco: CocoFile | None,
) -> int:
    """Predict one after the other, with a bar; the exit code."""
    failed = 0
    columns = (TextColumn("{task.description}"), Bar(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("Predicting", total=len(stems))
        for index, (path, stem) in enumerate(zip(source.paths, stems, strict=True)):
            try:
                data = source.read(index)
                encoded = _predict_one(detector, selection, path, data, out, stem)
                if coco is not None:
                    coco.add(index, encoded["instances"])
                done = f"{path}: {_found(encoded)} -> {out / stem}.json, .png"
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


def _predict_one(
    detector: Detector, selection: Selection, path: Path, data: bytes, out: Path, stem: str
) -> dict[str, Any]:
    """Predict one file and write its two outputs; what was found."""
    pixels = decode_image(data, ImageLimits()).pixels
    prepared = detector.prepare(pixels, tta=selection.tta)
    prediction = detector.infer([dataclasses.replace(prepared, wanted=selection.wanted)])[0]
    description = detector.description
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
            "width": pixels.shape[1],
            "height": pixels.shape[0],
        },
        **encoded,
    }
    flags = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_INDENT_2
    (out / f"{stem}.json").write_bytes(orjson.dumps(answer, option=flags))
    annotate(pixels, prediction, selection, description).save(out / f"{stem}.png")
    return encoded


def _found(encoded: Mapping[str, Any]) -> str:
    """What was found, in words."""
    if "instances" in encoded:
        return f"{len(encoded['instances']['scores'])} instances"
    if "proposals" in encoded:
        return f"{len(encoded['proposals']['objectness_logits'])} proposals"
    return ", ".join(encoded)

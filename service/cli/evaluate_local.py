"""A model of the operator's own files for ``detserve evaluate``: found, loaded, and asked."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch

from models import zoo
from models.evaluation import read_picture
from models.execution import Mode
from service.cli.evaluate_sources import Picture, Subject
from service.errors import Unprocessable
from service.inference.detector import Detector, ModelDescription, Prediction, PreparedImage, Views
from service.inference.loading import load_torch_detector
from service.inference.threads import divide_cores, use_cores
from service.repository.disk.folder import ModelFolder, RepositoryFolder
from service.repository.disk.manifest import CONFIG, LABELS, MODEL_YAML, weights_names
from service.repository.model_settings import ModelSettings
from service.repository.shelf import FolderShelf
from service.repository.source import ModelSource
from service.schemas.options import PredictOptions
from service.settings import PRETRAINED

BATCH = 8
"""Pictures of one padded size that a GPU gets together; a CPU gains nothing by more than one."""

BATCH_PIXELS = 16_000_000
"""Padded pixels of a batch, as of the server's; one picture may exceed it alone."""

FINAL = "model_final.pth"
"""The weights of a training's folder, among its other checkpoints."""


@dataclass(frozen=True)
class FoundModel:
    """Files of a model, and what people call it."""

    source: ModelSource
    title: str


def embedded_model() -> FoundModel:
    """The demo model that comes with this package."""
    files = ModelSource(PRETRAINED / "config.yaml", PRETRAINED / "model_final.pth")
    return FoundModel(files, "the embedded shapes model")


def named_files(
    config: Path | None, zoo_name: str | None, weights: Path, labels: Path | None
) -> FoundModel:
    """Files that the command line names one by one. Raises :class:`ModelError` for an unknown zoo model."""
    named = zoo.get(zoo_name) if zoo_name is not None else config
    return FoundModel(ModelSource(named, weights, labels), f"{weights.parent.name}/{weights.name}")


def find_model(name: str, repository: Path | None) -> FoundModel:
    """The model that ``name`` stands for.

    Args:
        name: a weights file with its config beside it; the folder of a version or of a training; the
            folder of a model with versions, of which the current one is taken, else the newest; or
            MODEL or MODEL/VERSION of the repository.
        repository: its folder, for the last form.

    Raises:
        ApiError, ModelError: there is no such model, or it is not complete.
    """
    path = Path(name)
    if path.is_file():
        return _in_folder(path.resolve().parent, path.name)
    if path.is_dir():
        folder = path.resolve()
        if weights_names(folder):
            return _in_folder(folder, None)
        return _of_model(ModelFolder(folder.name, folder, folder.parent), None)
    if repository is None:
        raise Unprocessable(
            "unknown_model",
            f"There is no file or folder {name}. Name the folder of a model or of a version, or with "
            "--repository a MODEL or MODEL/VERSION in it.",
        )
    model, _, version = name.replace(":", "/").partition("/")
    return _of_model(RepositoryFolder(repository).model(model), version or None)


def _of_model(model: ModelFolder, version: str | None) -> FoundModel:
    """A version of a model with versions: the named one, else the current one, else the newest."""
    if version is None:
        newest = model.newest_complete()
        version = model.record().current or (newest.label if newest else None)
        if version is None:
            raise Unprocessable(
                "unknown_model",
                f"The folder {model.path.name} has neither a weights file nor a complete version of a "
                "model; detserve models list tells what a repository has.",
            )
    shelf = FolderShelf(model)
    candidate = shelf.candidate(shelf.label_of(version))
    return FoundModel(candidate.source, f"{model.name}, version {candidate.label}")


def _in_folder(folder: Path, weights: str | None) -> FoundModel:
    """Files that lie beside each other, sealed as a version or not."""
    if weights is None:
        names = weights_names(folder)
        if len(names) > 1 and FINAL not in names:
            raise Unprocessable(
                "several_weights",
                f"{folder.name} has {len(names)} weights files, {', '.join(names[:5])}; name the file "
                "itself.",
            )
        weights = FINAL if FINAL in names else names[0]

    def optional(name: str) -> Path | None:
        return folder / name if os.path.lexists(folder / name) else None

    model_yaml = optional(MODEL_YAML)
    settings = ModelSettings.read(model_yaml) if model_yaml is not None else None
    config = settings.zoo_model if settings is not None and settings.zoo else optional(CONFIG)
    source = ModelSource(config, folder / weights, optional(LABELS), settings=settings)
    is_version = (folder / "manifest.json").is_file()
    title = f"{folder.parent.name}, version {folder.name}" if is_version else folder.name
    return FoundModel(source, title if weights in (FINAL, None) else f"{title}, {weights}")


class LocalModel:
    """A loaded model; see :class:`service.cli.evaluate_sources.AnswerSource`.

    Args:
        detector: the model.
        title: what people call it.
        facts: more of it for people.
    """

    def __init__(
        self, detector: Detector, title: str, facts: Sequence[tuple[str, str]] = ()
    ) -> None:
        self._detector = detector
        description = detector.description
        self._on_gpu = description.device.startswith("cuda")
        self.subject = Subject(
            title=title,
            class_names=description.class_names,
            stuff_class_names=description.stuff_class_names,
            outputs=description.outputs,
            score_threshold=description.score_threshold,
            score_threshold_key=description.score_threshold_key,
            input_format=description.input_format,
            has_tta=description.tta is not None,
            takes_proposals=description.takes_proposals,
            facts=(*_facts(description), *facts),
        )

    @classmethod
    def load(cls, found: FoundModel, *, device: str, mode: Mode) -> LocalModel:
        """Load it onto ``device``. Raises :class:`ModelError`."""
        source = found.source
        detector = load_torch_detector(
            config=source.config,
            weights=source.weights,
            labels=source.labels,
            device=device,
            root=source.root,
            mode=mode,
            settings=source.settings,
        )
        return cls(detector, found.title)

    def answers(self, pictures: Sequence[Picture], tta: str) -> Iterator[Prediction]:
        """See :class:`AnswerSource`; the next pictures are read while the model is at work."""
        views = _views(self._detector.description, tta)
        cores, before = divide_cores(0, on_gpu=self._on_gpu), torch.get_num_threads()
        use_cores(cores.model)
        size = BATCH if self._on_gpu and views is None else 1
        with ThreadPoolExecutor(cores.workers, initializer=use_cores, initargs=(1,)) as pool:
            waiting: deque[Future[PreparedImage]] = deque()
            batch: list[PreparedImage] = []
            try:
                for place in range(len(pictures)):
                    for later in pictures[place + len(waiting) : place + size + cores.workers]:
                        waiting.append(pool.submit(self._prepare, later, views))
                    prepared = waiting.popleft().result()
                    if batch and not _joins(batch, prepared, size):
                        yield from self._detector.infer(batch)
                        batch = []
                    batch.append(prepared)
                yield from self._detector.infer(batch) if batch else ()
            finally:
                for future in waiting:
                    future.cancel()
                use_cores(before)

    def _prepare(self, picture: Picture, views: Views | None) -> PreparedImage:
        return self._detector.prepare(read_picture(picture.path, picture.size), tta=views)

    def close(self) -> None:
        """See :class:`AnswerSource`."""
        self._detector.close()


def _joins(batch: Sequence[PreparedImage], one: PreparedImage, most: int) -> bool:
    """Whether a picture can run with these."""
    height, width = one.padded_size
    fits = (len(batch) + 1) * height * width <= BATCH_PIXELS
    return len(batch) < most and batch[0].padded_size == one.padded_size and fits


def _views(description: ModelDescription, tta: str) -> Views | None:
    options = PredictOptions.parse({"tta": tta})
    return options.views(
        description.tta, min_size=description.min_size, max_size=description.max_size
    )


def _facts(description: ModelDescription) -> list[tuple[str, str]]:
    """What a reader of the figures wants to know of a model."""
    report = description.load_report
    tensors = report.get("tensors")
    return [
        ("architecture", f"{description.architecture}, {description.backbone}"),
        ("weights", f"{description.weights_file} (SHA-256 {description.weights_sha256[:12]})"),
        ("config", description.config_file),
        ("checkpoint", f"{tensors} tensors, all of the model's" if tensors else ""),
        (
            "input",
            f"{description.min_size} to {description.max_size} pixels, {description.input_format}",
        ),
        ("runs on", f"{description.device}, {description.precision}"),
    ]

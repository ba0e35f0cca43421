"""``detserve evaluate``: a model's figures on a data set, in the terminal and as files."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, TimeRemainingColumn

from models.errors import ModelError
from models.evaluation import CocoDataset, DetailedResult, EvaluationError
from models.evaluation.comparison import compare
from models.evaluation.panoptic_dataset import PanopticDataset
from models.evaluation.report import Against
from models.evaluation.semantic_dataset import SemanticDataset
from service.allocator import keep_large_buffers
from service.cli.evaluate_choice import Choice
from service.cli.evaluate_measure import (
    Progress,
    finest,
    hints,
    measure,
    measure_panoptic,
    measure_semantic,
    require_instances,
)
from service.cli.evaluate_outcome import Outcome
from service.cli.evaluate_sources import AnswerSource
from service.cli.evaluate_tables import show
from service.cli.models_tables import TEXT, console, fail, print_json, progress_bar, say
from service.errors import ApiError
from service.plugins import import_plugins, split_paths
from service.schemas.options import PredictOptions

__all__ = ["Choice", "Settings", "run"]

TOO_LOW, WRONG_USE = 1, 2
PLAIN = "plain"


@dataclass(frozen=True)
class Settings:
    """What is measured and how; None is what was not given.

    Attributes:
        data, images: see :meth:`CocoDataset.load`; ``images`` is the other data sets' too.
        panoptic_data: a JSON and the folder of its maps.
        semantic_data: folder of label maps.
        max_images: of each data set.
        tta: what ``POST /predict`` takes, or "both".
        score_threshold, iou_threshold: of the confusion matrix and the pictures.
        against, against_version: another model.
        out: folder of the files.
        min_ap: 0 to 100.
        as_json: whether the answer on standard output is JSON.
        plugins: Python files of the operator's.
    """

    data: Path | None = None
    images: Path | None = None
    panoptic_data: tuple[Path, Path] | None = None
    semantic_data: Path | None = None
    max_images: int | None = None
    tta: str = "none"
    score_threshold: float = 0.5
    iou_threshold: float = 0.5
    against: str | None = None
    against_version: str | None = None
    out: Path = Path("evaluation")
    min_ap: float | None = None
    as_json: bool = False
    plugins: tuple[Path, ...] = ()

    @property
    def ways(self) -> list[tuple[str, str]]:
        """Name and test-time augmentation of each way to measure, the first one for the report."""
        if self.tta == "both":
            return [(PLAIN, "none"), ("TTA full", "full")]
        return [(PLAIN if self.tta == "none" else f"TTA {self.tta}", self.tta)]

    def check(self) -> None:
        """Raise :class:`EvaluationError` or :class:`ApiError` for options that do not go together."""
        if self.data is None and self.panoptic_data is None and self.semantic_data is None:
            raise EvaluationError(
                "There is nothing to measure with: give --data, a JSON in COCO's format "
                "(or --panoptic-data or --semantic-data)."
            )
        if self.data is None:
            for option, given in (
                ("--min-ap", self.min_ap is not None),
                ("--against", self.against is not None),
                ("--tta", self.tta != "none"),
            ):
                if given:
                    raise EvaluationError(f"{option} is about instances and needs --data.")
        if self.semantic_data is not None and self.images is None:
            raise EvaluationError("--semantic-data needs --images, the folder of its pictures.")
        if self.against is None and self.against_version is not None:
            raise EvaluationError("--against-version needs --against, the server's address.")
        for _, tta in self.ways:
            PredictOptions.parse({"tta": tta})


def run(choice: Choice, settings: Settings) -> int:
    """Measure, print and write; 0, 1 if the AP is below ``min_ap``, 2 if nothing can be measured."""
    keep_large_buffers()
    try:
        settings.check()
        choice.check()
        other = None
        if settings.against is not None:
            other = choice.against(settings.against, settings.against_version)
        import_plugins(split_paths(settings.plugins))
        _make_folder(settings.out)
        data = _load_data(settings)
        outcome = _measure(choice, settings, data, other)
        outcome.write(settings.out)
    except (ModelError, ApiError) as error:
        return fail(error.message, WRONG_USE)
    except OSError as error:
        name = error.filename or settings.out
        return fail(f"{name} cannot be written: {error.strerror}.", WRONG_USE)
    if settings.as_json:
        print_json(outcome.to_dict(short=True))
    else:
        show(outcome, console())
        say(f"Report, figures and results -> {settings.out}")
    return _verdict(outcome.detail, settings.min_ap)


def _make_folder(out: Path) -> None:
    """Before anything is measured: hours of work are not to end at a missing folder."""
    out.mkdir(parents=True, exist_ok=True)


@dataclass(frozen=True)
class _Data:
    """The data sets, as far as they were named, read and checked."""

    instances: CocoDataset | None = None
    panoptic: PanopticDataset | None = None


def _load_data(settings: Settings) -> _Data:
    instances = panoptic = None
    most = settings.max_images
    if settings.data is not None:
        instances = CocoDataset.load(settings.data, settings.images)
        instances = instances.subset(most) if most is not None else instances
    if settings.panoptic_data is not None:
        panoptic = PanopticDataset.load(*settings.panoptic_data, settings.images)
        panoptic = panoptic.subset(most) if most is not None else panoptic
    return _Data(instances, panoptic)


def _measure(choice: Choice, settings: Settings, data: _Data, other: Choice | None) -> Outcome:
    """Measure the model, and after it the other one: two at once may not fit the device.

    Raises:
        ModelError, ApiError: something cannot be measured.
    """
    with _opened(choice) as source:
        subject = source.subject
        outcome = Outcome(subject=subject, way=settings.ways[0][0])
        if data.instances is not None:
            require_instances(subject)
            outcome.dataset = data.instances
            for name, tta in settings.ways:
                detail = _detail(source, data.instances, settings, tta, name)
                outcome.ways.append((name, detail))
            outcome.hints = hints(outcome.ways[0][1], subject, data.instances)
        if data.panoptic is not None:
            with _progress("Panoptic") as told:
                outcome.panoptic = measure_panoptic(source, data.panoptic, progress=told)
        if settings.semantic_data is not None:
            assert settings.images is not None, "checked before"
            semantic = SemanticDataset.load(
                settings.semantic_data, settings.images, class_names=subject.stuff_class_names
            )
            if settings.max_images is not None:
                semantic = semantic.subset(settings.max_images)
            with _progress("Semantic") as told:
                measured = measure_semantic(source, semantic, progress=told)
            outcome.semantic = (semantic.name, measured)
    if other is not None and data.instances is not None and outcome.detail is not None:
        with _opened(other) as source:
            tta = settings.ways[0][1]
            detail = _detail(source, data.instances, settings, tta, "The other model")
            comparison = compare(detail, outcome.detail)
            outcome.against = Against(source.subject.title, detail, comparison)
    return outcome


def _detail(
    source: AnswerSource, dataset: CocoDataset, settings: Settings, tta: str, name: str
) -> DetailedResult:
    with _progress(name[0].upper() + name[1:]) as told:
        return measure(
            source,
            dataset,
            tta=tta,
            score_threshold=settings.score_threshold,
            iou_threshold=settings.iou_threshold,
            progress=told,
            compared=settings.against is not None,
        )


@contextlib.contextmanager
def _opened(choice: Choice) -> Iterator[AnswerSource]:
    with console(stderr=True).status("Loading the model ..."):
        source = choice.open()
    try:
        yield source
    finally:
        source.close()


@contextlib.contextmanager
def _progress(name: str) -> Iterator[Progress]:
    """A bar of pictures on standard error, where somebody watches."""
    with progress_bar(TEXT, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()) as bar:
        task = bar.add_task(name, total=None)

        def told(done: int, of: int) -> None:
            last = done == of
            bar.update(
                task,
                completed=done,
                total=of,
                description=f"{name}: computing the figures" if last else name,
            )

        yield told


def _verdict(detail: DetailedResult | None, min_ap: float | None) -> int:
    if min_ap is None or detail is None:
        return 0
    kind, ap = finest(detail)
    if ap is not None and ap >= min_ap:
        return 0
    said = "not measurable" if ap is None else f"{ap:.2f}"
    return fail(f"{kind} AP is {said}; at least {min_ap:g} is required.", TOO_LOW)

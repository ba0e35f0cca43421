"""The report on data that one wants to train with: everything that is found, before the first step."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from models.config import Config
from models.training.data.config_checks import check_against_config
from models.training.data.dataset import TrainingDataset
from models.training.data.duplicates import look_alikes, same_files, same_files_within
from models.training.data.errors import DataError
from models.training.data.figures import DataFigures, data_figures
from models.training.data.findings import Finding, Severity, gravest_first
from models.training.data.object_checks import look_at_objects
from models.training.data.pictures import look_at_pictures

MOST_DECODED = 20_000
"""Pictures of a data set that are decoded to find damaged ones, and of both to find look-alikes; more
would take many minutes."""

_FEW_INSTANCES = 10
_PERCENT = 100


@dataclass(frozen=True)
class DataReport:
    """What was found in the data.

    Attributes:
        train: what the training set holds.
        val: what the validation set holds; None without one.
        findings: the gravest first; each names its data set.
    """

    train: DataFigures
    val: DataFigures | None
    findings: tuple[Finding, ...]

    def of(self, severity: Severity) -> tuple[Finding, ...]:
        """The findings of one severity."""
        return tuple(finding for finding in self.findings if finding.severity == severity)

    @property
    def refuses(self) -> bool:
        """Whether there is an error, so that nothing may be trained."""
        return bool(self.of("error"))

    def raise_for_errors(self) -> None:
        """Refuse to train with errors.

        Raises:
            DataError: with a sentence for each.
        """
        errors = self.of("error")
        if not errors:
            return
        lines = "\n".join(f"- {finding}" for finding in errors)
        raise DataError(
            f"Nothing was trained, as the data has {len(errors)} "
            f"{'fault' if len(errors) == 1 else 'faults'}:\n{lines}",
            findings=[finding.to_dict() for finding in errors],
        )

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON has it."""
        return {
            "train": self.train.to_dict(),
            "val": self.val.to_dict() if self.val is not None else None,
            "findings": [finding.to_dict() for finding in self.findings],
        }


def check_data(
    train: TrainingDataset,
    val: TrainingDataset | None = None,
    *,
    cfg: Config | None = None,
    find_look_alikes: bool = True,
    progress: Callable[[int], None] | None = None,
) -> DataReport:
    """Look at everything that can be known before training.

    All pictures are decoded, so that a damaged one is named here and does not end the training when its
    turn comes; of more than ``MOST_DECODED`` the headers and the ends are read. Between the two sets,
    pictures with equal bytes are found, and by decoding every picture those that look the same.

    Args:
        train: what is learned from.
        val: what is measured with; with the classes of ``train``.
        cfg: the config that is trained; None leaves that out.
        find_look_alikes: False saves decoding once more; above ``MOST_DECODED`` pictures in both sets it
            is left out anyway.
        progress: is told how many more pictures were looked at, of all in both sets.
    """
    figures = data_figures(train)
    findings: list[Finding] = _of_one(train, figures, progress)
    if not figures.objects and not train.has_sem_seg:
        findings.append(
            Finding("error", "no-objects", "There is nothing to learn: no picture has an object.")
        )
    findings += _classes_of_train(figures)
    findings += check_against_config(train, cfg) if cfg is not None else []
    findings = _named(findings, train.name)
    val_figures = None
    if val is not None:
        val_figures = data_figures(val)
        of_val = _of_one(val, val_figures, progress)
        of_val += _val_beside_train(figures, val_figures)
        of_val += _pictures_in_both(train, val, find_look_alikes)
        findings += _named(of_val, val.name)
    return DataReport(figures, val_figures, gravest_first(findings))


def _named(findings: Iterable[Finding], name: str) -> list[Finding]:
    return [replace(finding, dataset=name) for finding in findings]


def _of_one(
    dataset: TrainingDataset, figures: DataFigures, progress: Callable[[int], None] | None
) -> list[Finding]:
    decode = len(dataset.images) <= MOST_DECODED
    of_pictures = look_at_pictures(dataset, progress, decode=decode)
    findings = [*dataset.findings, *of_pictures, *look_at_objects(dataset)]
    if not decode:
        findings.append(
            Finding(
                "note",
                "pictures-not-decoded",
                f"Above {MOST_DECODED} pictures only beginnings and ends are read: damage elsewhere is found "
                "when the training meets it.",
            )
        )
    empty = [image.path.name for image in dataset.images if all(o.is_crowd for o in image.objects)]
    if empty and figures.objects:
        findings.append(
            Finding.at(
                "note",
                "picture-empty",
                "Pictures have no object to learn.",
                "They are left out of training while DATALOADER.FILTER_EMPTY_ANNOTATIONS is True; as "
                "examples of nothing they may lower false alarms.",
                empty,
            )
        )
    twice = same_files_within([image.path for image in dataset.images])
    if twice:
        names = [f"{dataset.images[b].path.name} = {dataset.images[a].path.name}" for a, b in twice]
        findings.append(
            Finding.at(
                "warning",
                "picture-twice",
                "Pictures are there more than once, byte by byte.",
                "Keep one of each, with all its objects.",
                names,
            )
        )
    return findings


def _classes_of_train(figures: DataFigures) -> list[Finding]:
    if not figures.objects:
        return []
    findings = []
    if unused := [name for name, count in figures.instances.items() if not count]:
        findings.append(
            Finding.at(
                "warning",
                "class-unused",
                "Classes have no object, so they will not be learned, and one that the model knew "
                "will be forgotten.",
                "Annotate some, let the old model label them (detserve train --teacher), or take the class "
                "out of the model.",
                unused,
            )
        )
    few = [f"{n}: {c}" for n, c in figures.instances.items() if 0 < c < _FEW_INSTANCES]
    if few:
        findings.append(
            Finding.at(
                "warning",
                "class-rare",
                f"Classes have fewer than {_FEW_INSTANCES} objects.",
                "Annotate more, or set DATALOADER.SAMPLER_TRAIN RepeatFactorTrainingSampler.",
                few,
            )
        )
    return findings


def _val_beside_train(train: DataFigures, val: DataFigures) -> list[Finding]:
    findings = []
    unlearned = [name for name, n in val.instances.items() if n and not train.instances.get(name)]
    if unlearned:
        findings.append(
            Finding.at(
                "warning",
                "class-not-in-train",
                "Classes are measured that have no object in the training set; their AP will be near 0.",
                "Move some pictures from one set to the other.",
                unlearned,
            )
        )
    unmeasured = [name for name, n in train.instances.items() if n and not val.instances.get(name)]
    if unmeasured:
        findings.append(
            Finding.at(
                "warning",
                "class-unmeasured",
                "Classes are learned that have no object in the validation set; they have no AP "
                "(COCO's evaluation says -1, Detectron2 nan).",
                "Move some pictures from one set to the other.",
                unmeasured,
            )
        )
    absent = [size for size, count in val.sizes.items() if not count]
    if absent and val.objects:
        findings.append(
            Finding.at(
                "note",
                "size-unmeasured",
                "No object of the validation set is of these sizes, so there is no AP of them "
                "(COCO's evaluation says -1, Detectron2 nan).",
                "",
                absent,
            )
        )
    return findings


def _pictures_in_both(
    train: TrainingDataset, val: TrainingDataset, find_look_alikes: bool
) -> list[Finding]:
    # The first sequence is the one whose pictures are counted.
    ours, theirs = [image.path for image in val.images], [image.path for image in train.images]
    findings = []
    same = same_files(ours, theirs)
    if same:
        share = _PERCENT * len(same) / len(ours)
        findings.append(
            Finding.at(
                "warning",
                "picture-in-both",
                f"Pictures are in the training set too, byte by byte ({share:.0f} % of the validation "
                "set), so AP will look better than it is.",
                "Take them out of one of the two.",
                [f"{ours[a].name} = {theirs[b].name}" for a, b in same],
            )
        )
    if find_look_alikes and len(ours) + len(theirs) > MOST_DECODED:
        findings.append(
            Finding(
                "note",
                "look-alikes-not-searched",
                f"Above {MOST_DECODED} pictures nothing is decoded to find those that look the same; equal "
                "files were searched.",
            )
        )
    elif find_look_alikes:
        known = {index for index, _ in same}
        alike = [pair for pair in look_alikes(ours, theirs) if pair[0] not in known]
        if alike:
            findings.append(
                Finding.at(
                    "note",
                    "picture-alike",
                    "Pictures look the same as ones of the training set (saved again, resized, or "
                    "neighbours in a film).",
                    "If they show the same scene, keep them in one set.",
                    [f"{ours[a].name} = {theirs[b].name}" for a, b in alike],
                )
            )
    return findings

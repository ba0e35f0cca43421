"""What ``detserve extend`` does: find names, change classes, write files, show what became of what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from rich.text import Text

from models import zoo
from models.architectures import build_model
from models.checkpoints import read_checkpoint
from models.checkpoints.torchvision_files import detect_torchvision
from models.classes import ClassChanges, ClassPlan, ExtendedModel, extend_classes, save_extended
from models.classes.config_keys import class_key, masks_are_agnostic
from models.classes.files import CONFIG, check_free
from models.classes.tensors import ClassTensor, Part, class_tensors, main_part
from models.config import Config, load_config
from models.errors import ConfigError, ModelError
from models.metadata import metadata_for
from models.sidecars import KEYPOINTS, STUFF_LABELS, KeypointNames
from service.plugins import import_plugins, split_paths
from service.repository.labels import ClassNames
from service.repository.model_settings import FILE_NAME, ModelSettings

_MOST_ROWS = 100
"""Of a table; of more classes only those that changed are shown."""

PLACEHOLDER = (
    "The names of the {part} are not known, so class_0 and so on stand for them. Give a file with "
    "{option}, or rename them."
)


@dataclass(frozen=True)
class Asked:
    """Options as they were typed: each may be several names with commas between them."""

    add: Sequence[str]
    remove: Sequence[str]
    keep: Sequence[str] | None
    rename: Sequence[str]
    reorder: Sequence[str] | None

    def changes(self) -> ClassChanges:
        """What they mean.

        Raises:
            ModelError: a rename is none.
        """
        renames: dict[str, str] = {}
        for pair in _split(self.rename):
            old, equals, new = (word.strip() for word in pair.partition("="))
            if not (old and equals and new):
                raise ModelError(f"--rename takes OLD=NEW, not {pair!r}.")
            if old in renames:
                raise ModelError(f"--rename has the name {old!r} twice.")
            renames[old] = new
        return ClassChanges(
            add=_split(self.add),
            remove=_split(self.remove),
            keep=None if self.keep is None else _split(self.keep),
            rename=renames,
            reorder=None if self.reorder is None else _split(self.reorder),
        )


def _split(values: Sequence[str]) -> list[str]:
    return [name.strip() for value in values for name in value.split(",")]


def run(
    weights: Path,
    *,
    out: Path,
    config: Path | None,
    zoo_name: str | None,
    labels: Path | None,
    stuff_labels: Path | None,
    things: Asked,
    stuff: Asked,
    plugins: Sequence[Path] = (),
) -> int:
    """Write the extended model into ``out``; 0, or 2 if it was refused, with the reason on stderr.

    Args:
        weights: the checkpoint.
        out: folder of the new files.
        config: of the checkpoint; None is ``config.yaml`` beside it, or the zoo's.
        zoo_name: of the model of the zoo whose config it is.
        labels, stuff_labels: files of class names; None looks where the server looks.
        things, stuff: what is to change; of a semantic model ``things`` are its classes.
    """
    err = Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        import_plugins(split_paths(plugins))
        check_free(out)
        cfg, config = _config(weights, config, zoo_name)
        names = _Names.find(cfg, config, labels, stuff_labels)
        changes = things.changes()
        extended = extend_classes(
            weights,
            cfg,
            names.classes.names,
            add=changes.add,
            remove=changes.remove,
            keep=changes.keep,
            rename=changes.rename,
            reorder=changes.reorder,
            stuff_names=names.stuff.names if names.stuff is not None else (),
            stuff=stuff.changes() or None,
        )
        written = save_extended(extended, out, keypoints=_keypoints(cfg, config))
    except ModelError as error:
        err.print(f"error: {error.message}", style="red", markup=False)
        return 2
    _show(extended, names)
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"-> {', '.join(map(str, written))}", markup=False)
    return 0


def _config(weights: Path, config: Path | None, zoo_name: str | None) -> tuple[Config, Path | None]:
    """The config, and the file that it is from."""
    if zoo_name is not None:
        if config is not None:
            raise ConfigError("--config and --zoo exclude each other: a model has one config.")
        return zoo.get(zoo_name).config(), None
    if config is None:
        config = weights.parent / CONFIG
        if not config.is_file():
            if detect_torchvision(read_checkpoint(weights).state_dict) is not None:
                raise ModelError(
                    f"{weights.name} holds a detector of torchvision's, whose classes cannot be changed "
                    "here. Change them in torchvision, or take a model of Detectron2's."
                )
            raise ConfigError(
                f"There is no {CONFIG} beside {weights.name}: name the config that training wrote with "
                "--config, or the model of the zoo with --zoo."
            )
    return load_config(config), config


def _keypoints(cfg: Config, config: Path | None) -> KeypointNames | None:
    """Those that are written down beside the config; None leaves it to what the config names."""
    if config is None or not cfg.MODEL.KEYPOINT_ON:
        return None
    beside = config.parent / KEYPOINTS
    return KeypointNames.read(beside) if beside.is_file() else None


@dataclass(frozen=True)
class _Names:
    """Names of the main classes and, of a panoptic model, of its stuff."""

    main: Part
    classes: ClassNames
    stuff: ClassNames | None

    @classmethod
    def find(
        cls, cfg: Config, config: Path | None, labels: Path | None, stuff_labels: Path | None
    ) -> _Names:
        """As the server finds them: model.yaml, labels, what is known of the data sets."""
        with torch.device("meta"):
            model = build_model(cfg)
        tensors = class_tensors(model, masks_are_agnostic=masks_are_agnostic(cfg))
        main = main_part(tensors)
        counts = {tensor.part: tensor.num_classes for tensor in tensors}
        metadata = metadata_for(cfg)
        known: dict[Part, tuple[str, ...]] = {
            "things": metadata.thing_classes if metadata else (),
            "stuff": metadata.stuff_classes if metadata else (),
        }
        source = metadata.source if metadata else ""
        settings = ModelSettings()
        if config is not None and (config.parent / FILE_NAME).is_file():
            settings = ModelSettings.read(config.parent / FILE_NAME)
        classes = ClassNames.find(
            labels,
            config=config,
            num_classes=counts[main],
            settings=None if labels is not None else settings.class_names,
            known=known[main],
            source=source,
            key=class_key(main, tensors),
        )
        if main == "stuff" or "stuff" not in counts:
            if stuff_labels is not None:
                raise ModelError("--stuff-labels is for panoptic models; this one has --labels.")
            return cls(main, classes, None)
        stuff = cls._stuff(config, stuff_labels, counts["stuff"], known["stuff"], source, tensors)
        return cls(main, classes, stuff)

    @staticmethod
    def _stuff(
        config: Path | None,
        given: Path | None,
        count: int,
        known: tuple[str, ...],
        source: str,
        tensors: Sequence[ClassTensor],
    ) -> ClassNames:
        if given is None and config is not None and (config.parent / STUFF_LABELS).is_file():
            given = config.parent / STUFF_LABELS
        return ClassNames.find(
            given,
            config=None,
            num_classes=count,
            known=known,
            source=source,
            key=class_key("stuff", tensors),
        )


def _show(extended: ExtendedModel, names: _Names) -> None:
    console = Console(highlight=False, soft_wrap=True)
    report = extended.report
    for part, plan in report.plans.items():
        console.print(_table(part, plan))
        for name in plan.removed:
            console.print(f"removed: {name}", markup=False)
    for tensor, (before, after) in report.tensors.items():
        console.print(f"{tensor}: {before} -> {after} rows", markup=False)
    notes = list(report.notes)
    if names.classes.source == "placeholder":
        notes.append(PLACEHOLDER.format(part=names.main, option="--labels"))
    if names.stuff is not None and names.stuff.source == "placeholder":
        notes.append(PLACEHOLDER.format(part="stuff", option="--stuff-labels"))
    for note in notes:
        console.print(note, style="yellow", markup=False)


def _table(part: Part, plan: ClassPlan) -> Table:
    table = Table(title=f"Classes ({part})", title_justify="left", box=None, pad_edge=False)
    table.add_column("id", justify="right")
    table.add_column("class", overflow="fold")
    table.add_column("was", overflow="fold")
    rows = list(enumerate(zip(plan.names, plan.sources, strict=True)))
    if len(rows) > _MOST_ROWS:
        changed = [
            (i, (name, source))
            for i, (name, source) in rows
            if source != i or plan.old_names[i] != name
        ]
        table.caption = f"{len(rows) - len(changed)} classes are as they were."
        rows = changed
    for i, (name, source) in rows:
        was = "new" if source is None else f"{source} {plan.old_names[source]}"
        table.add_row(str(i), Text(name), Text(was))  # brackets in a name are no markup
    return table

"""``detserve inspect``: what a checkpoint or a config is, and whether the two fit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
import torch
from rich.console import Console
from rich.table import Table

from models.architectures import build_model
from models.checkpoints import read_checkpoint
from models.checkpoints.inspection import (
    CheckpointFacts,
    ConfigFacts,
    FitFacts,
    describe_checkpoint,
    inspect_config,
    inspect_fit,
)
from models.checkpoints.torchvision_files import detect_torchvision
from models.config import Config, default_config, load_config
from models.config.lazy_tags import LAZY_KEY
from models.errors import ConfigError, ModelError
from service.plugins import import_plugins, split_paths

_CONFIG_SUFFIXES = (".yaml", ".yml", ".py")
_MIN_WIDTH = 100  # so that a digest stays on one line

FITS, DOES_NOT_FIT, UNREADABLE = 0, 1, 2


def run(file: Path, *, config: Path | None, as_json: bool, plugins: Sequence[Path] = ()) -> int:
    """Show what ``file`` is; 0 if all is well, 1 if it does not fit, 2 if something is unreadable."""
    facts: CheckpointFacts | ConfigFacts
    fit: FitFacts | None = None
    try:
        import_plugins(split_paths(plugins))
        if file.suffix.lower() in _CONFIG_SUFFIXES:
            if config is not None:
                raise ModelError(f"{file.name} is a config itself; name the weights instead.")
            cfg = load_config(file)
            check_config(cfg, file.name)
            facts = inspect_config(cfg)
            shown: dict[str, Any] = {"config": {"file": file.name, **facts.to_dict()}}
        else:
            checkpoint = read_checkpoint(file)
            facts = describe_checkpoint(checkpoint, file.name)
            shown = {"checkpoint": facts.to_dict()}
            torchvision = detect_torchvision(checkpoint.state_dict)
            cfg = None
            if config is not None:
                cfg = load_config(config)
                shown["config"] = {"file": config.name, **inspect_config(cfg).to_dict()}
            elif torchvision is not None:
                cfg = torchvision.config()
            if cfg is not None:
                fit = inspect_fit(build_model(cfg), checkpoint, file.name)
                shown["fit"] = fit.to_dict()
    except ModelError as error:
        if as_json:
            _print_json({"error": error.message})
        else:
            _console(stderr=True).print(f"error: {error.message}", style="red", markup=False)
        return UNREADABLE
    if as_json:
        _print_json(shown)
    else:
        _show(shown, fit)
    return FITS if fit is None or fit.fits else DOES_NOT_FIT


def check_config(cfg: Config, name: str) -> None:
    """Build what ``cfg`` describes, without memory for its weights.

    Raises:
        ConfigError: nothing can be built of it, or it says nothing of a model.
    """
    if LAZY_KEY not in cfg and cfg.unknown_keys:
        plain = {k: v for k, v in cfg.to_dict().items() if k in default_config()}
        if plain == default_config().to_dict():
            raise ConfigError(
                f"{name} holds no key of a Detectron2 config (it has {', '.join(cfg.unknown_keys[:5])})."
            )
    with torch.device("meta"):
        build_model(cfg)


def _console(*, stderr: bool = False) -> Console:
    # Made when needed: a console keeps the stream that it found.
    console = Console(stderr=stderr, highlight=False, soft_wrap=True)
    console.width = max(console.width, _MIN_WIDTH)
    return console


def _print_json(value: dict[str, Any]) -> None:
    _console().out(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())


def _show(shown: dict[str, Any], fit: FitFacts | None) -> None:
    console = _console()
    for title in ("checkpoint", "config"):
        if title in shown:
            console.print(_table(title, shown[title]))
    if fit is None:
        return
    if fit.fits:
        ignored = f" ({len(fit.ignored)} tensors ignored)" if fit.ignored else ""
        console.print(f"It fits: every tensor has its place{ignored}.", style="green")
        return
    console.print(fit.message, style="red", markup=False)
    for title, names in (
        ("missing in the file", fit.missing),
        ("unexpected in the file", fit.unexpected),
        ("of another shape", tuple(_shapes(row) for row in fit.wrong_shape)),
    ):
        if names:
            console.print(f"\n{len(names)} {title}:")
            for name in names:
                console.print(f"  {name}", markup=False)


def _shapes(row: dict[str, Any]) -> str:
    return f"{row['name']}: {row['file']} in the file, {row['model']} in the model"


def _table(title: str, values: dict[str, Any]) -> Table:
    table = Table(title=title, title_justify="left", show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    rows = {**values, **values.get("model", {})}
    rows.pop("model", None)
    for key, value in rows.items():
        text = _text(key, value)
        if text:
            table.add_row(key.replace("_", " "), text)
    return table


def _text(key: str, value: Any) -> str:
    """A value for people; empty for what says nothing."""
    if value is None or value is False or value == [] or value == "":
        return ""
    if value is True:
        return "yes"
    if key == "size_bytes":
        return f"{value / 1e6:,.1f} MB"
    if key == "num_keypoints" and value == 0:
        return ""
    if isinstance(value, list):
        return ", ".join(str(item) for item in value)
    return f"{value:,}" if key == "parameters" else str(value)

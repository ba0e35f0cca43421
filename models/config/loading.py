"""From a YAML file, the files it builds on, and overrides to one config."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from models.config import safe_yaml
from models.config.compat import LATEST_VERSION, upgrade_, version_of
from models.config.config import Config
from models.config.defaults import DEFAULTS
from models.config.lazy import is_lazy, lazy_changes
from models.config.lazy_tags import LAZY_KEY
from models.config.merging import decode_literal, merge_
from models.errors import ConfigError, PathNotAllowedError
from models.files import NotRegularError, open_regular

BASE_KEY = "_BASE_"
# Detectron2's own chains have three links.
_MAX_CHAIN = 20
_NOT_OF_THE_MODEL = {"MODEL.WEIGHTS", "MODEL.DEVICE"}


@functools.cache
def default_config() -> Config:
    """Detectron2's defaults, with nothing changed."""
    return Config(DEFAULTS)


def load_config(
    path: str | Path, overrides: Sequence[Any] = (), *, root: Path | None = None
) -> Config:
    """Reads a Detectron2 config: hand-written with ``_BASE_``, or dumped with every key.

    A dumped lazy config is read as well: its model is under ``LAZY_MODEL``, see
    :mod:`models.config.lazy`.

    Args:
        path: the YAML file.
        overrides: keys and values in turn, as Detectron2's command line has them:
            ``["MODEL.ROI_HEADS.NUM_CLASSES", "3"]``. Values may be Python objects.
        root: when given, the folder that the file and every file it builds on must lie in,
            symbolic links resolved.

    Raises:
        ConfigError: a file cannot be read or is not safe, or a value has the wrong type.
        PathNotAllowedError: a file lies outside ``root``.
    """
    path = Path(path)
    root = root.resolve() if root is not None else None
    changes, _ = _load_chain(path, path.name, root, ())
    values = default_config().to_dict()
    merge_(values, changes, DEFAULTS, "")
    return with_overrides(Config(values), overrides)


def with_overrides(cfg: Config, overrides: Sequence[Any]) -> Config:
    """Returns the config with ``KEY, VALUE, KEY, VALUE, ...`` changed.

    Raises:
        ConfigError: a key does not exist, or a value has another type than its default.
    """
    if isinstance(overrides, str) or len(overrides) % 2:
        raise ConfigError(
            "Overrides come as keys and values in turn, such as "
            "MODEL.ROI_HEADS.NUM_CLASSES 3 MODEL.MASK_ON True.",
        )
    for key, value in zip(overrides[::2], overrides[1::2], strict=True):
        if not isinstance(key, str):
            raise ConfigError(f"An override's key must be text such as MODEL.WEIGHTS, not {key!r}.")
        if isinstance(value, str) and not isinstance(cfg.get(key), str):
            decoded = decode_literal(value)
            value = safe_yaml.parse_scalar(value) if isinstance(decoded, str) else decoded
        if key.startswith("MODEL.") and LAZY_KEY in cfg and key not in _NOT_OF_THE_MODEL:
            raise ConfigError(
                f"{key} cannot be overridden: this is a lazy config, whose model is described "
                f"under {LAZY_KEY}, such as {LAZY_KEY}.roi_heads.num_classes.",
                key=key,
            )
        cfg = cfg.override(key, value)
    return cfg


def _load_chain(
    path: Path, name: str, root: Path | None, parents: tuple[Path, ...]
) -> tuple[dict[str, Any], int]:
    """Returns what a file and its bases set, in the keys of the latest version, and its version.

    Each file is brought to the latest version before it is merged, so that an old file on a new
    base (or the other way round) keeps its meaning.
    """
    real = _resolve(path, name, root)
    if real in parents:
        raise ConfigError(f"{name} builds on itself: its {BASE_KEY} chain is a circle.")
    if len(parents) >= _MAX_CHAIN:
        raise ConfigError(f"{name}: the {BASE_KEY} chain has more than {_MAX_CHAIN} files.")
    values = safe_yaml.parse(_read(real, name), name)
    if is_lazy(values):
        return lazy_changes(values, name), LATEST_VERSION

    merged: dict[str, Any] = {}
    inherited = LATEST_VERSION
    for base in _bases(values.pop(BASE_KEY, None), name):
        base_values, base_version = _load_chain(
            _base_path(base, path, name), base, root, (*parents, real)
        )
        _overlay_(merged, base_values)
        inherited = min(inherited, base_version)
    if LAZY_KEY in merged and "MODEL" in values:
        raise ConfigError(
            f"{name} builds on a lazy config, so its keys under MODEL would change nothing: the "
            f"model is described under {LAZY_KEY}."
        )

    version = version_of(values, inherited)
    upgrade_(values, version, _meta_architecture(values) or _meta_architecture(merged) or "")
    _overlay_(merged, values)
    return merged, version


def _resolve(path: Path, name: str, root: Path | None) -> Path:
    try:
        real = path.resolve()
    except (OSError, ValueError, RuntimeError):
        raise ConfigError(f"There is no config file {name!r}.") from None
    # Before any look at the file itself, so that an answer does not tell what exists elsewhere.
    if root is not None and not real.is_relative_to(root):
        raise PathNotAllowedError(
            f"The config file {name!r} is outside the model folder. Move it there."
        )
    if real.suffix == ".py":
        raise ConfigError(
            f"{name} is a Python config, which would have to be executed. Dump it where Detectron2 "
            "is installed (from detectron2.config import LazyConfig; "
            'LazyConfig.save(cfg, "config.yaml")) and use that file.'
        )
    return real


def _read(path: Path, name: str) -> bytes:
    try:
        with open_regular(path) as file:
            return file.read(safe_yaml.MAX_BYTES + 1)
    except NotRegularError as error:
        if path.is_dir():
            raise ConfigError(f"{name} is a folder. Name the config.yaml in it.") from None
        raise ConfigError(f"{name} is no config: {error.strerror}. Name a regular file.") from None
    except (FileNotFoundError, NotADirectoryError):
        raise ConfigError(f"There is no config file {name!r}.") from None
    except OSError as error:
        raise ConfigError(f"{name} cannot be read: {error.strerror}.") from None


def _bases(value: Any, name: str) -> list[str]:
    bases = value if isinstance(value, list) else [] if value is None else [value]
    if not all(isinstance(base, str) and base for base in bases):
        raise ConfigError(f"{name}: {BASE_KEY} must be a path or a list of paths.")
    return bases


def _base_path(base: str, path: Path, name: str) -> Path:
    if "://" in base:
        raise ConfigError(
            f"{name} builds on {base}, and configs are not downloaded. Download it, put it beside "
            f"{name} and name that file in {BASE_KEY}."
        )
    try:
        # Relative to the file that names it; joining keeps an absolute path as it is.
        return path.parent / Path(base).expanduser()
    except RuntimeError:
        raise ConfigError(f"{name}: the home folder in {BASE_KEY} {base!r} is unknown.") from None


def _meta_architecture(values: dict[str, Any]) -> Any:
    model = values.get("MODEL")
    return model.get("META_ARCHITECTURE") if isinstance(model, dict) else None


def _overlay_(values: dict[str, Any], changes: dict[str, Any]) -> None:
    for key, value in changes.items():
        below = values.get(key)
        if isinstance(value, dict) and isinstance(below, dict):
            _overlay_(below, value)
        else:
            values[key] = value

"""Reading a lazy config that Detectron2 dumped, for what it says beside the model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from models.config import safe_yaml
from models.config.lazy import is_lazy
from models.errors import ConfigError
from models.files import open_regular


def is_lazy_file(path: str | Path) -> bool:
    """Whether a YAML is such a dump; what a training here writes of a lazy config is none.

    Raises:
        ConfigError: it cannot be read, or is not safe.
    """
    return is_lazy(_values(Path(path)))


def read_lazy_file(path: str | Path) -> dict[str, Any]:
    """The values of the YAML, with tags as :mod:`models.config.lazy_tags` leaves them.

    Raises:
        ConfigError: it cannot be read, is not safe, or is no dumped lazy config.
    """
    values = _values(Path(path))
    if not is_lazy(values):
        raise ConfigError(
            f"{Path(path).name} is no dumped lazy config; a YAML config says how it is trained under INPUT "
            "and SOLVER."
        )
    return values


def _values(path: Path) -> dict[str, Any]:
    try:
        with open_regular(path) as file:
            return safe_yaml.parse(file.read(safe_yaml.MAX_BYTES + 1), path.name)
    except OSError as error:
        raise ConfigError(f"{path.name} cannot be read: {error.strerror}.") from None

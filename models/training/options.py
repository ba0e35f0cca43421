"""What a training is told beside the config."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from models.errors import ConfigError


@dataclass(frozen=True)
class TrainingOptions:
    """Choices that Detectron2's config has no key for; the config has the rest.

    Attributes:
        seed: of everything random: new layers, the order of pictures, augmentation, sampling.
        learning_rates: factor on the learning rate by the beginning of a parameter's name, such as
            ``{"backbone": 0.1}``; the longest beginning that fits counts, 0 freezes.
        ema_decay: of a moving average of the weights, which is then what is evaluated and written as
            the model; None is without.
        eval_period: iterations between evaluations; None: ``TEST.EVAL_PERIOD``, or a tenth of the
            training if that is 0.
        checkpoint_period: iterations between checkpoints; None: ``SOLVER.CHECKPOINT_PERIOD``, or a
            tenth of the training if that is less.
        best_by: the figure that the best checkpoint is chosen by, such as "segm/AP"; None: "bbox/AP",
            or "sem_seg/mIoU" where label maps are measured.
        patience: evaluations in a row that may bring nothing better before the training ends early;
            None trains to the end.
        log_period: iterations that a line of the log is the mean of.
        large_scale_jitter: (height, width) of the crop after a scale of 0.1 to 2 (Ghiasi et al. 2021),
            instead of the config's resize and crop; None is without.
        colour_jitter: how far brightness, contrast and saturation may go, such as 0.3; 0 is without.
        workers: processes that prepare pictures; None: ``DATALOADER.NUM_WORKERS`` on a
            GPU, and none on a CPU, whose cores the model needs.
        cache_bytes: memory for decoded pictures, per process that prepares them.
    """

    seed: int = 0
    learning_rates: Mapping[str, float] = field(default_factory=dict)
    ema_decay: float | None = None
    eval_period: int | None = None
    checkpoint_period: int | None = None
    best_by: str | None = None
    patience: int | None = None
    log_period: int = 20
    large_scale_jitter: tuple[int, int] | None = None
    colour_jitter: float = 0.0
    workers: int | None = None
    cache_bytes: int = 1 << 30

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ConfigError(f"The seed is {self.seed}; it is 0 or more.")
        if self.ema_decay is not None and not 0 < self.ema_decay < 1:
            raise ConfigError(f"The EMA's decay is {self.ema_decay}; it lies between 0 and 1.")
        for name in ("eval_period", "checkpoint_period", "patience", "log_period"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} is {value}; it is 1 or more.")
        if self.workers is not None and self.workers < 0:
            raise ConfigError(
                f"There are {self.workers} workers; 0 prepares in the process itself."
            )
        if self.colour_jitter < 0:
            raise ConfigError(f"The colour jitter is {self.colour_jitter}; it is 0 or more.")
        for name, factor in self.learning_rates.items():
            if not 0 <= factor < float("inf"):
                raise ConfigError(
                    f"The factor on the learning rate of {name!r} is {factor}; it is 0 or more."
                )

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self) | {"learning_rates": dict(self.learning_rates)}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> TrainingOptions:
        """What :meth:`to_dict` gave.

        Raises:
            TypeError: a key is unknown.
        """
        return cls(**content)

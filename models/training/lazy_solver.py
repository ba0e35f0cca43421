"""How Detectron2 trained what a dumped lazy config describes, in the keys that a YAML config has for it.

A dump names an optimiser and a schedule with their keywords. Those known here are translated; nothing is
imported or called.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from models.config.interpolation import resolve
from models.config.lazy import target_name
from models.config.lazy_tags import TARGET_KEY
from models.errors import ConfigError
from models.training.data.lazy_dump import read_lazy_file

_OPTIMISER, _SCHEDULE = "optimizer", "lr_multiplier"
_STEPS, _COSINE, _FIXED = "WarmupMultiStepLR", "WarmupCosineLR", "WarmupStepWithFixedGammaLR"

# Where a dump has them, the key that means the same, and what they are.
_PLAIN: tuple[tuple[tuple[str, ...], str, type], ...] = (
    (("train", "max_iter"), "SOLVER.MAX_ITER", int),
    (("dataloader", "train", "total_batch_size"), "SOLVER.IMS_PER_BATCH", int),
    (("train", "amp", "enabled"), "SOLVER.AMP.ENABLED", bool),
    (("train", "checkpointer", "period"), "SOLVER.CHECKPOINT_PERIOD", int),
    (("train", "eval_period"), "TEST.EVAL_PERIOD", int),
)


@dataclass(frozen=True)
class LazySolver:
    """What a dump says of its training.

    Attributes:
        keys: of a YAML config, such as ``SOLVER.BASE_LR``, with their values.
        untold: a sentence for each thing that no key says, so that it will be otherwise here.
    """

    keys: dict[str, Any]
    untold: tuple[str, ...]

    def overrides(self) -> list[Any]:
        """Keys and values in turn, as :func:`models.load_config` takes them; one's own come behind."""
        return [part for pair in self.keys.items() for part in pair]


def solver_of_lazy(path: str | Path) -> LazySolver:
    """Optimiser, schedule, batch, length and periods of a dumped lazy config.

    Args:
        path: of the YAML.

    Raises:
        ConfigError: the file is no such config, or a value is none of the kind that it must be.
    """
    path = Path(path)
    values = read_lazy_file(path)
    return _Translation(values, path.name).result()


class _Translation:
    """Goes through the parts of a dump in turn."""

    def __init__(self, values: Mapping[str, Any], name: str) -> None:
        self._values, self._name = values, name
        self._keys: dict[str, Any] = {}
        self._untold: list[str] = []

    def result(self) -> LazySolver:
        for path, key, kind in _PLAIN:
            value = self._at(path)
            if value is not None:
                self._keys[key] = self._checked(value, kind, ".".join(path))
        self._optimiser(self._at((_OPTIMISER,)))
        self._schedule(self._at((_SCHEDULE,)))
        average = self._at(("train", "model_ema"))
        if isinstance(average, Mapping) and average.get("enabled"):
            self._untold.append(
                f"train.model_ema is enabled, with a decay of {average.get('decay', 0.999)}: an average of "
                "the weights is an option of the training here and no key (--ema)."
            )
        return LazySolver(self._keys, tuple(self._untold))

    def _optimiser(self, tree: Any) -> None:
        if tree is None:
            return
        if target_name(tree) != "SGD":
            self._untold.append(
                f"{_OPTIMISER} is {_shown(tree)}, and trainings here are by SGD: its learning rate and its "
                "weight decay are left out. Set SOLVER.BASE_LR and SOLVER.WEIGHT_DECAY."
            )
            return
        parameters = tree.get("params") or {}
        if not isinstance(parameters, Mapping):
            raise self._wrong(f"{_OPTIMISER}.params", parameters, "a call")
        if target_name(parameters) not in ("", "get_default_optimizer_params"):
            self._untold.append(
                f"{_OPTIMISER}.params is {_shown(parameters)}, which may give parts of the model rates of "
                "their own; here the option --rate does."
            )
        # What is not there has PyTorch's default, not that of Detectron2's YAML configs.
        decay = parameters.get("weight_decay")
        decay = tree.get("weight_decay", 0.0) if decay is None else decay
        norm = parameters.get("weight_decay_norm")
        rate = parameters.get("base_lr")
        found = {
            "BASE_LR": tree.get("lr", 0.001) if rate is None else rate,
            "MOMENTUM": tree.get("momentum", 0.0),
            "WEIGHT_DECAY": decay,
            "WEIGHT_DECAY_NORM": decay if norm is None else norm,
            "BIAS_LR_FACTOR": parameters.get("bias_lr_factor", 1.0),
        }
        for key, value in found.items():
            self._keys[f"SOLVER.{key}"] = self._checked(value, float, f"{_OPTIMISER}: {key}")
        self._keys["SOLVER.NESTEROV"] = self._checked(
            tree.get("nesterov", False), bool, f"{_OPTIMISER}.nesterov"
        )
        if (bias := parameters.get("weight_decay_bias")) is not None:
            where = f"{_OPTIMISER}.params.weight_decay_bias"
            self._keys["SOLVER.WEIGHT_DECAY_BIAS"] = self._checked(bias, float, where)
        self._others(tree, _OPTIMISER, "lr", "momentum", "weight_decay", "nesterov", "params")
        self._others(
            parameters,
            f"{_OPTIMISER}.params",
            *(
                "base_lr",
                "weight_decay",
                "weight_decay_norm",
                "weight_decay_bias",
                "bias_lr_factor",
            ),
        )

    def _schedule(self, tree: Any) -> None:
        if tree is None:
            return
        length = self._keys.get("SOLVER.MAX_ITER")
        if length is None:
            self._untold.append(
                f"{_SCHEDULE} is in parts of a training whose length, train.max_iter, is not there: set "
                "SOLVER.MAX_ITER, SOLVER.STEPS and SOLVER.WARMUP_ITERS."
            )
            return
        warmup, where = 0, _SCHEDULE
        if target_name(tree) == "WarmupParamScheduler":
            where = f"{_SCHEDULE}.scheduler"
            factor = self._checked(tree.get("warmup_factor"), float, f"{_SCHEDULE}.warmup_factor")
            share = self._checked(tree.get("warmup_length"), float, f"{_SCHEDULE}.warmup_length")
            warmup = round(share * length)
            self._keys["SOLVER.WARMUP_FACTOR"] = factor
            self._keys["SOLVER.WARMUP_METHOD"] = self._checked(
                tree.get("warmup_method", "linear"), str, f"{_SCHEDULE}.warmup_method"
            )
            self._keys["SOLVER.RESCALE_INTERVAL"] = self._checked(
                tree.get("rescale_interval", False), bool, f"{_SCHEDULE}.rescale_interval"
            )
            known = ("warmup_factor", "warmup_length", "warmup_method", "rescale_interval")
            self._others(tree, _SCHEDULE, *known, "scheduler")
            tree = tree.get("scheduler")
        self._keys["SOLVER.WARMUP_ITERS"] = warmup
        self._shape(tree, where, length)

    def _shape(self, tree: Any, where: str, length: int) -> None:
        """The schedule without its warm-up."""
        kind = target_name(tree)
        if kind == "MultiStepParamScheduler":
            self._others(tree, where, "values", "num_updates", "milestones")
            self._falls(*self._stretches(tree, where), where, length)
        elif kind == "StepParamScheduler":
            values = self._numbers(tree, "values", where)
            self._others(tree, where, "values", "num_updates")
            self._falls(values, [i / len(values) for i in range(1, len(values))], where, length)
        elif kind == "ConstantParamScheduler":
            value = self._checked(tree.get("value"), float, f"{where}.value")
            self._others(tree, where, "value")
            self._falls([value], [], where, length)
        elif kind == "CosineParamScheduler":
            start, end = (
                self._checked(tree.get(key), float, f"{where}.{key}")
                for key in ("start_value", "end_value")
            )
            self._others(tree, where, "start_value", "end_value")
            self._keys["SOLVER.LR_SCHEDULER_NAME"] = _COSINE
            if (rate := self._keys.get("SOLVER.BASE_LR")) is not None:
                self._keys["SOLVER.BASE_LR_END"] = rate * end
            self._begins_at(start)
        elif kind == "StepWithFixedGammaParamScheduler":
            for name, key, of in (("num_decays", "NUM_DECAYS", int), ("gamma", "GAMMA", float)):
                self._keys[f"SOLVER.{key}"] = self._checked(tree.get(name), of, f"{where}.{name}")
            self._others(tree, where, "base_value", "num_decays", "gamma", "num_updates")
            self._keys["SOLVER.LR_SCHEDULER_NAME"] = _FIXED
            self._begins_at(self._checked(tree.get("base_value"), float, f"{where}.base_value"))
        else:
            self._untold.append(
                f"{where} is {_shown(tree)}, a schedule that is not known here. Set "
                "SOLVER.LR_SCHEDULER_NAME and what belongs to it."
            )

    def _stretches(self, tree: Mapping[str, Any], where: str) -> tuple[list[float], list[float]]:
        """The values, and the parts of the training after which the next one comes."""
        values = self._numbers(tree, "values", where)
        total = tree.get("num_updates")
        if total is not None:
            total = self._checked(total, float, f"{where}.num_updates")
        if tree.get("milestones") is not None:
            milestones = self._numbers(tree, "milestones", where)
            if total is None:
                *milestones, total = milestones
        else:
            total = len(values) if total is None else total
            width = math.ceil(total / len(values))
            milestones = [width * i for i in range(1, len(values))]
        if len(milestones) != len(values) - 1 or not all(0 < m < total for m in milestones):
            raise ConfigError(
                f"{self._name}: {where} has {len(values)} values and the milestones {milestones} of {total}; "
                "there is one value more than milestones, which lie in between."
            )
        return values, [milestone / total for milestone in milestones]

    def _falls(
        self, values: Sequence[float], parts: Sequence[float], where: str, length: int
    ) -> None:
        """A rate that falls by one factor after these parts of the training."""
        factors = [after / before for before, after in pairwise(values) if before]
        if len(factors) < len(values) - 1 or any(
            not math.isclose(factor, factors[0], rel_tol=1e-6) for factor in factors
        ):
            self._untold.append(
                f"{where} goes through {list(values)}, which do not fall by one factor as with SOLVER.GAMMA. "
                "Set SOLVER.STEPS and SOLVER.GAMMA."
            )
            return
        self._keys["SOLVER.LR_SCHEDULER_NAME"] = _STEPS
        # Rounded, so that a part that is not exact in binary does not delay a fall.
        self._keys["SOLVER.STEPS"] = tuple(math.ceil(round(part * length, 6)) for part in parts)
        if factors:
            self._keys["SOLVER.GAMMA"] = factors[0]
        self._begins_at(values[0])

    def _begins_at(self, value: float) -> None:
        """The schedule's first value, which is a factor on the learning rate."""
        if "SOLVER.BASE_LR" in self._keys:
            self._keys["SOLVER.BASE_LR"] *= value

    def _at(self, path: tuple[str, ...]) -> Any:
        """What the dump has there, references replaced; None where there is nothing."""
        here: Any = self._values
        for key in path:
            if isinstance(here, str):  # a reference, which is followed below
                break
            if not isinstance(here, Mapping) or key not in here:
                return None
            here = here[key]
        return resolve(self._values, path, self._name)

    def _others(self, tree: Mapping[str, Any], where: str, *known: str) -> None:
        """A sentence for keywords of a call that are not translated."""
        others = sorted(
            k for k, v in tree.items() if k not in (*known, TARGET_KEY) and v is not None
        )
        if others:
            self._untold.append(f"{where} has {', '.join(others)}, which nothing here stands for.")

    def _numbers(self, tree: Mapping[str, Any], key: str, where: str) -> list[float]:
        values = tree.get(key)
        if not isinstance(values, list) or not values:
            raise self._wrong(f"{where}.{key}", values, "a list of numbers")
        return [self._checked(value, float, f"{where}.{key}") for value in values]

    def _checked(self, value: Any, kind: type, where: str) -> Any:
        is_bool = isinstance(value, bool)
        if kind is float and isinstance(value, int | float) and not is_bool:
            if math.isfinite(value):
                return float(value)
        elif isinstance(value, kind) and (kind is bool or not is_bool):
            return value
        kinds = {float: "a number", int: "a whole number", bool: "true or false", str: "text"}
        raise self._wrong(where, value, kinds[kind])

    def _wrong(self, where: str, value: Any, meaning: str) -> ConfigError:
        return ConfigError(f"{self._name}: {where} is {value!r}; it is {meaning}.")


def _shown(tree: Any) -> str:
    return target_name(tree) or repr(tree)[:80]

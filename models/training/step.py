"""One step of a training: losses, gradients, clipping, the optimiser, the average of the weights."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from models.config import Config
from models.training.ema import ModelEma
from models.training.gradient_clipping import clip_gradients_
from models.training.options import TrainingOptions
from models.training.parameter_groups import build_optimizer
from models.training.schedule import set_learning_rates_
from models.training.seeds import mixed_seed
from models.training.starting import frozen_modules

Batch = list[dict[str, Any]]

LEAST_SCALE = 1e-4
"""Of the losses in float16: they begin with 65536, and each step that overflows halves that."""


class Step:
    """Changes a model by one batch.

    Args:
        model: on its device; its frozen parts are marked as such here.
        cfg: its ``SOLVER`` counts.
        options: the seed, the learning rates of parts and the EMA count.
        rank: of this process, so that each samples on its own.

    Raises:
        ConfigError: nothing would be trained, or ``SOLVER`` contradicts itself.
    """

    def __init__(self, model: Any, cfg: Config, options: TrainingOptions, *, rank: int = 0) -> None:
        self.model = model
        self.device: torch.device = model.device
        self._cfg, self._options, self._rank = cfg, options, rank
        factors = dict(options.learning_rates)
        self.optimizer = build_optimizer(model, cfg, multipliers=factors)
        self._parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        self._frozen = frozen_modules(model)
        self.ema = ModelEma(model, options.ema_decay) if options.ema_decay else None
        amp = bool(cfg.SOLVER.AMP.ENABLED) and self.device.type == "cuda"
        self.scaler = torch.amp.GradScaler("cuda", enabled=amp)

    def train_mode(self) -> None:
        """Training mode for all but what is frozen."""
        self.model.train()
        for module in self._frozen:
            module.eval()

    def __call__(self, parallel: Any, batch: Batch, iteration: int) -> dict[str, Tensor | float]:
        """Learn from one batch.

        Args:
            parallel: the model, or what shares it between processes.
            batch: inputs with their ground truth.
            iteration: from 0; all randomness comes of it and of the seed.

        Returns:
            The losses, their sum, the gradient's norm and what the model tells, scalars by name.

        Raises:
            FloatingPointError: a loss is not finite, or in float16 none has been for long; nothing was
                changed.
        """
        torch.manual_seed(mixed_seed(self._options.seed, iteration, self._rank))
        rate = set_learning_rates_(self.optimizer, self._cfg, iteration)
        half = self.scaler.is_enabled()
        with torch.autocast(self.device.type, dtype=torch.float16, enabled=half):
            losses: dict[str, Tensor] = parallel(batch)
        total = torch.stack([loss.float() for loss in losses.values()]).sum()
        self._check(total, losses, iteration, rate, len(batch))
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(total).backward()  # type: ignore[no-untyped-call]  # PyTorch's
        self.scaler.unscale_(self.optimizer)
        norm = clip_gradients_(self._parameters, self._cfg)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.ema is not None:
            self.ema.update(self.model)
        figures: dict[str, Tensor | float] = {
            "total_loss": total.detach(),
            **{name: loss.detach() for name, loss in losses.items()},
            **self.model.training_figures,
            "gradient_norm": norm,
            "lr": rate,
        }
        return figures

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """The model with the weights that are used: the averaged ones where there are."""
        with self.ema.swapped(self.model) if self.ema is not None else contextlib.nullcontext():
            yield

    def weights(self) -> dict[str, Tensor]:
        """The weights that are used, copies on the host."""
        with self.averaged():
            return {
                name: value.cpu().clone(memory_format=torch.contiguous_format)
                for name, value in self.model.state_dict().items()
            }

    def state_dict(self) -> dict[str, Any]:
        """All but the model's own weights and its :meth:`training_state`; equal in all processes."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "ema": None if self.ema is None else self.ema.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up what :meth:`state_dict` gave."""
        self.optimizer.load_state_dict(state["optimizer"])
        if state["scaler"]:  # else it was on a CPU until now, where there is none
            self.scaler.load_state_dict(state["scaler"])
        if self.ema is not None:
            self.ema.load_state_dict(state["ema"])

    def _check(
        self,
        total: Tensor,
        losses: Mapping[str, Tensor],
        iteration: int,
        rate: float,
        pictures: int,
    ) -> None:
        # On a GPU a look makes the host wait, so there it is seldom.
        if self.device.type == "cuda" and iteration % self._options.log_period:
            return
        if self.scaler.is_enabled():
            # Float16 may overflow at times: the scaler leaves the step out and scales less.
            is_fine = self.scaler.get_scale() >= LEAST_SCALE
        else:
            is_fine = bool(torch.isfinite(total))
        if is_fine:
            return
        bad = [name for name, loss in losses.items() if not bool(torch.isfinite(loss))]
        raise FloatingPointError(
            f"{', '.join(bad) or 'The sum of the losses'} is no longer finite in iteration "
            f"{iteration + 1}, at a learning rate of {rate:.3g} for {pictures} pictures. Detectron2's "
            "configs are for 16 pictures an iteration, and fewer need a rate that is lower in proportion: "
            "lower SOLVER.BASE_LR, lengthen SOLVER.WARMUP_ITERS, or set SOLVER.CLIP_GRADIENTS.ENABLED "
            "True."
        )

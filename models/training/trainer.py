"""Training a detector, so that it can be stopped anywhere and goes on as if it had not been.

Whatever is random in iteration ``i`` depends on the seed and on ``i`` alone: which pictures, how they
are augmented, what is sampled. So a checkpoint holds weights, momentum and averages and no random
state, and on a CPU with one thread a resumed training ends with the bits of an uninterrupted one.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from models.architectures import build_model
from models.config import Config
from models.errors import ConfigError
from models.heads.fast_rcnn import set_class_image_counts
from models.training.clock import Clock
from models.training.data.augmentation import build_augmentations, described
from models.training.data.config_checks import check_against_config
from models.training.data.dataset import TrainingDataset
from models.training.data.loader import build_loader
from models.training.data.mapper import Augmentations, TrainingMapper
from models.training.distributed import (
    process_group,
    shared,
    training_device,
    world_from_environment,
)
from models.training.journal import Journal
from models.training.options import TrainingOptions
from models.training.output import write_model
from models.training.precision import use_precision
from models.training.run_state import FINAL, LAST, RunState, check_identity, identity_of
from models.training.schedule import check_schedule
from models.training.scoring import Scoring
from models.training.seeds import mixed_seed
from models.training.starting import (
    finite,
    frozen_at_random,
    load_start,
    plain_batch_norms,
)
from models.training.step import Batch, Step
from models.training.stopping import Stopping
from models.training.validation import (
    Measurement,
    ValidationSet,
    forgetting,
    why_so_low,
)
from models.training.watching import TrainingResult, Watcher
from models.training.window import Window

_ASK_PERIOD = 5
"""Iterations between asking the other processes whether to stop, which makes them wait for each other;
torchrun, when it is told to stop, leaves them half a minute."""


class Trainer:
    """Trains what a config describes on a data set.

    ::

        train = TrainingDataset.load("train.json", "images")
        cfg = load_config("config.yaml", ["MODEL.ROI_HEADS.NUM_CLASSES", len(train.class_names)])
        Trainer(cfg, train, val, output="run", weights="model_final.pth").train()

    The folder ``output`` gets ``last.pth`` (all that :meth:`train` needs to resume), ``model_best.pth``,
    ``model_final.pth``, ``config.yaml``, ``labels.txt`` and ``metrics.jsonl``. Started by ``torchrun``,
    the processes share each batch.

    Args:
        cfg: the model, ``SOLVER``, ``INPUT`` and ``DATALOADER`` of Detectron2.
        train: what is learnt from.
        val: what AP is measured on, or mIoU; None measures nothing, and there is no best checkpoint.
        output: folder of the run; made if it is not there.
        weights: a checkpoint to start from; None starts at random. See
            :func:`models.training.starting.load_start`.
        options: what the config has no key for.
        device: "auto", "cpu" or "cuda:n"; with several processes each takes its own GPU.
        augmentations: instead of the config's and the options', such as those of a dumped lazy config,
            see :func:`models.training.data.dumped_augmentation.dumped_augmentations`.
        watcher: is told how it goes.

    Raises:
        ConfigError: config and data do not fit, or ask for something that cannot be.
        CheckpointError: the weights do not fit.
    """

    def __init__(
        self,
        cfg: Config,
        train: TrainingDataset,
        val: ValidationSet | None = None,
        *,
        output: str | Path,
        weights: str | Path | None = None,
        options: TrainingOptions | None = None,
        device: str = "auto",
        augmentations: Augmentations | None = None,
        watcher: Watcher | None = None,
    ) -> None:
        self.options = options if options is not None else TrainingOptions()
        self.cfg, self.data, self.val = cfg, train, val
        self.output = Path(output)
        self.world = world_from_environment()
        self.device = training_device(device, self.world)
        self._watcher = watcher if self.world.is_first else None
        findings = (*train.findings, *check_against_config(train, cfg))
        errors = [finding for finding in findings if finding.severity == "error"]
        if errors:
            raise ConfigError(" ".join(str(finding) for finding in errors))
        self.max_iter: int = cfg.SOLVER.MAX_ITER
        self.batch_size: int = cfg.SOLVER.IMS_PER_BATCH
        check_schedule(cfg)
        use_precision(cfg, self.device)
        self._augmentations = augmentations
        if augmentations is None and (
            self.options.large_scale_jitter or self.options.colour_jitter
        ):
            self._augmentations = build_augmentations(
                cfg,
                large_scale_jitter=self.options.large_scale_jitter,
                colour_jitter=self.options.colour_jitter,
            )
        self.eval_period = self.options.eval_period or cfg.TEST.EVAL_PERIOD or self._tenth()
        self.checkpoint_period = self.options.checkpoint_period or min(
            max(cfg.SOLVER.CHECKPOINT_PERIOD, 1), self._tenth()
        )
        torch.manual_seed(mixed_seed(self.options.seed))
        self.model: Any = build_model(cfg)
        if self.world.size == 1 or self.device.type == "cpu":
            plain_batch_norms(self.model)
        if weights is not None:
            self._note(load_start(self.model, Path(weights)).sentence())
        set_class_image_counts(self.model, train.image_counts())
        self.model.to(self.device)
        if self.device.type == "cpu":
            # An eighth faster there; what is computed is the same but for the order of sums.
            self.model.to(memory_format=torch.channels_last)
        self._step = Step(self.model, cfg, self.options, rank=self.world.rank)
        told = self.options.to_dict() | {
            "augmentations": None if augmentations is None else described(augmentations)
        }
        self.identity = identity_of(cfg, train, told, self.world.size)
        self._scoring: Scoring | None = None
        if val is not None:
            self._scoring = Scoring(
                self._step,
                cfg,
                train,
                val,
                world=self.world,
                output=self.output,
                best_by=self.options.best_by,
                note=self._note,
            )
        self.iteration = 0
        self.finished = False
        self.before: dict[str, Any] | None = None
        self._measures_before = weights is not None
        self._window = Window(self.device)

    def resume(self) -> None:
        """Go back to where ``last.pth`` in the output folder was saved; :meth:`train` goes on from there.

        Raises:
            CheckpointError: it is not there, is damaged, or belongs to another training.
        """
        state = RunState.load(self.output)
        check_identity(state, self.identity)
        self.model.load_state_dict(state.model)
        self._step.load_state_dict(state.trainer)
        mine = state.ranks[self.world.rank]
        self.model.load_training_state(mine["model"])
        self._window.load_state_dict(mine["log"])
        self.iteration, self.before = state.iteration, state.before
        if self._scoring is not None:
            self._scoring.best = state.best
        self.finished = self.iteration >= self.max_iter
        self._note(f"Resumes after iteration {self.iteration} of {self.max_iter}.")

    def train(self) -> TrainingResult:
        """Train to the end, or until somebody presses Ctrl-C; either leaves ``last.pth``.

        Raises:
            FloatingPointError: a loss is not finite; ``last.pth`` is of before.
            CheckpointError: a checkpoint cannot be written.
            ModelError: a picture cannot be read.
        """
        self.output.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            stack.enter_context(process_group(self.world, self.device))
            stopping = stack.enter_context(Stopping())
            journal = self._journal(stack)
            if self.iteration == 0 and not self._measures_before:
                self._note(frozen_at_random(self.model))
            if self.iteration == 0 and self._measures_before and self._scoring is not None:
                result = self._evaluated(journal)
                self.before = result.to_dict() if result is not None else None
            after = self._iterate(self._loader(stack), journal, stopping)
            self.world.gather(None)  # no process returns before the first one has written its files
        return self._result(after)

    def _iterate(
        self, batches: Iterator[Batch], journal: Journal | None, stopping: Stopping
    ) -> Measurement | None:
        model = shared(self.model, self.world, self.device)
        after: Measurement | None = None
        self._step.train_mode()
        clock = Clock()
        while self.iteration < self.max_iter:
            batch = clock.fetched(batches)
            figures = self._step(model, batch, self.iteration)
            clock.done()
            self.iteration += 1
            self._window.add(figures)
            last = self.iteration == self.max_iter
            shown: dict[str, float] = {}
            if last or self.iteration % self.options.log_period == 0:
                left = self.max_iter - self.iteration
                shown = self._window.means(self.world) | clock.figures(self.batch_size, left)
                if journal is not None:
                    journal.write(self.iteration, shown)
            if self._watcher is not None:
                self._watcher.step(self.iteration, shown)
            stop = self._stops(stopping)
            if self._scoring is not None and (last or self.iteration % self.eval_period == 0):
                after = self._evaluated(journal)
                if after is not None:
                    self._scoring.keep_best(after, self.iteration)
                last = last or self._scoring.is_hopeless(
                    self.iteration, self.eval_period, self.options.patience
                )
                clock.restart()
            if last or stop or self.iteration % self.checkpoint_period == 0:
                self._save()
                clock.restart()
            if last:
                self.finished = True
                break
            if stop:
                self._note(
                    f"Stopped after iteration {self.iteration} of {self.max_iter}; nothing is lost: "
                    "resume when you like."
                )
                return None
        if after is not None and self.val is not None:
            self._note(why_so_low(after, len(self.val.images)))
        if self.world.is_first:
            weights = self._step.weights()
            write_model(self.output, FINAL, weights, self.cfg, self.data, self.iteration)
        return after

    def _stops(self, stopping: Stopping) -> bool:
        """Whether somebody asked any of the processes, which must agree on the iteration."""
        if self.world.size == 1:
            return stopping.asked
        return self.iteration % _ASK_PERIOD == 0 and self.world.any(stopping.asked)

    def _evaluated(self, journal: Journal | None) -> Measurement | None:
        """Measure, and tell it; in the first process the figures."""
        assert self._scoring is not None
        told = self._watcher.evaluated if self._watcher is not None else None
        result = self._scoring.measured(told)
        if result is not None and journal is not None:
            journal.write(self.iteration, result.lines())
        if result is not None and self._watcher is not None:
            self._watcher.step(self.iteration, result.lines())
        return result

    def _save(self) -> None:
        mine = {"model": self.model.training_state(), "log": self._window.state_dict()}
        ranks = self.world.at_first(mine)
        if not self.world.is_first:
            return
        if not finite(self.model):
            raise FloatingPointError(
                f"The weights are no longer finite after iteration {self.iteration}; {LAST} is of "
                "before. Lower SOLVER.BASE_LR."
            )
        state = RunState(
            iteration=self.iteration,
            model=self.model.state_dict(),
            trainer=self._step.state_dict(),
            ranks=ranks,
            best=None if self._scoring is None else self._scoring.best,
            before=self.before,
            identity=self.identity,
        )
        state.save(self.output)

    def _loader(self, stack: contextlib.ExitStack) -> Iterator[Batch]:
        return stack.enter_context(
            build_loader(
                self.cfg,
                self.data,
                seed=self.options.seed,
                batch_size=self.batch_size,
                start=self.iteration,
                rank=self.world.rank,
                world_size=self.world.size,
                num_workers=self._workers(),
                mapper=TrainingMapper(
                    self.cfg,
                    self.data,
                    augmentations=self._augmentations,
                    cache_bytes=self.options.cache_bytes,
                ),
            )
        )

    def _workers(self) -> int:
        if self.options.workers is not None:
            return self.options.workers
        # On a CPU the model has the cores.
        return 0 if self.device.type == "cpu" else int(self.cfg.DATALOADER.NUM_WORKERS)

    def _journal(self, stack: contextlib.ExitStack) -> Journal | None:
        if not self.world.is_first:
            return None
        journal = Journal(self.output, resume_at=self.iteration)
        stack.callback(journal.close)
        return journal

    def _tenth(self) -> int:
        return max(1, math.ceil(self.max_iter / 10))

    def _result(self, after: Measurement | None) -> TrainingResult:
        classes: Sequence[dict[str, Any]] = []
        if after is not None:
            classes = forgetting((self.before or {}).get("per_class"), after.per_class)
        return TrainingResult(
            iteration=self.iteration,
            finished=self.finished,
            before=self.before,
            after=after,
            best=None if self._scoring is None else self._scoring.best,
            best_by="" if self._scoring is None else self._scoring.best_by,
            classes=list(classes),
        )

    def _note(self, text: str | None) -> None:
        if self._watcher is not None and text is not None:
            self._watcher.note(text)

"""Training: data, augmentation, the solver, and a trainer that can be stopped and resumed anywhere."""

from models.training.options import TrainingOptions
from models.training.trainer import Trainer
from models.training.watching import TrainingResult, Watcher

__all__ = ["Trainer", "TrainingOptions", "TrainingResult", "Watcher"]

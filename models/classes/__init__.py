"""The classes of a model: how many there are, new last layers, and changes of them by name."""

from models.classes.changes import ClassChanges, ClassPlan
from models.classes.counting import num_classes
from models.classes.extending import ExtendedModel, ExtensionReport, extend_classes
from models.classes.files import save_extended
from models.classes.replacing import replace_predictor

__all__ = [
    "ClassChanges",
    "ClassPlan",
    "ExtendedModel",
    "ExtensionReport",
    "extend_classes",
    "num_classes",
    "replace_predictor",
    "save_extended",
]

"""How a model runs, apart from what it computes: see :mod:`models.execution.plan`."""

from models.execution.deviation import Deviation, deviation
from models.execution.plan import MODES, ExecutionPlan, Mode, Resize, apply_mode_
from models.execution.probes import probe_inputs, probe_pictures

__all__ = [
    "MODES",
    "Deviation",
    "ExecutionPlan",
    "Mode",
    "Resize",
    "apply_mode_",
    "deviation",
    "probe_inputs",
    "probe_pictures",
]

"""The parts of a model whose shapes are fixed, recorded as CUDA graphs and replayed.

A replay launches all kernels of a part at once: at small batches a GPU otherwise waits for Python.
Recording happens while a model is warmed up and never during a request: what has a shape that was not
recorded runs as written. Numbers are those of the recorded kernels, in the model's own precision.
"""

from __future__ import annotations

import contextlib
import logging
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from models.execution.folding import Undo
from models.execution.precision import modules_at
from models.heads.keypoint_head import BaseKeypointRCNNHead
from models.heads.mask_head import MaskRCNNConvUpsampleHead
from models.transfer import map_tensors, tensors_of

logger = logging.getLogger(__name__)

Capture = Callable[[Callable[[], Any]], tuple[Callable[[], None], Any]]
"""Runs a function and records it: what replays it, and the output that a replay writes to."""

GRAPHS_PER_PART = 64
"""Recorded shapes of one part at most; the one that was not used for longest is forgotten."""
RUNS_BEFORE_CAPTURE = 2
"""Libraries set themselves up in their first run, which must not be recorded."""

_WHOLE = ("backbone", "head", "proposal_generator.rpn_head")
_BY_ROWS = ("roi_heads.box_head", "roi_heads.mask_head", "roi_heads.keypoint_head")


class GraphedFunction:
    """A function of tensors that replays what was recorded of it for the shapes at hand.

    Its results are copies, so that they are the caller's for good, and so that all graphs can share
    one pool of memory.

    Args:
        function: tensors, or lists, tuples and dicts of them, to the same; without a gradient.
        capture: see :data:`Capture`.
        name: of the function, for the log.
        rows: for a function of one tensor whose rows do not depend on each other: numbers of rows to
            record. A call is padded to the next; with more rows than the largest it runs as written.
        memory_format: of that tensor, if it has four dimensions.
        limit: recorded shapes at most.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        capture: Capture,
        name: str = "function",
        rows: Sequence[int] = (),
        memory_format: torch.memory_format = torch.contiguous_format,
        limit: int = GRAPHS_PER_PART,
    ) -> None:
        self.function = function
        self.recording = False
        self._capture = capture
        self._name = name
        self._rows = sorted(rows)
        self._memory_format = memory_format
        self._limit = limit
        self._graphs: OrderedDict[Hashable, _Graph] = OrderedDict()
        self._refused = False

    def __len__(self) -> int:
        """How many shapes are recorded."""
        return len(self._graphs)

    def __call__(self, *args: Any) -> Any:
        """The function's result; while ``recording`` new shapes are recorded first."""
        if torch.is_grad_enabled() or self._refused:
            return self.function(*args)
        if self._rows:
            return self._call_by_rows(*args)
        key = self._key(args)
        if key is None:
            return self.function(*args)
        if self.recording and key not in self._graphs:
            self._record(key, args)
        graph = self._graphs.get(key)
        if graph is None:
            return self.function(*args)
        self._graphs.move_to_end(key)
        return map_tensors(graph(args), torch.clone)

    def _key(self, args: tuple[Any, ...]) -> Hashable:
        try:
            return _shapes(args)
        except TypeError:  # arguments of somebody's module that are no tensors
            return None

    def _call_by_rows(self, x: Tensor) -> Any:
        if self.recording:
            self._record_rows(x)
        enough = next((rows for rows in self._rows if rows >= len(x)), None)
        key = (enough, x.shape[1:], x.dtype)
        graph = self._graphs.get(key) if len(x) else None
        if graph is None:
            return self.function(x)
        self._graphs.move_to_end(key)
        return map_tensors(graph((x,)), lambda output: output[: len(x)].clone())

    def _record_rows(self, like: Tensor) -> None:
        for rows in reversed(self._rows):  # the largest first: the others fit in its memory
            key = (rows, like.shape[1:], like.dtype)
            if key not in self._graphs:
                x = like.new_zeros((rows, *like.shape[1:]))
                if x.dim() == 4:
                    x = x.contiguous(memory_format=self._memory_format)
                self._record(key, (x,))

    def _record(self, key: Hashable, args: tuple[Any, ...]) -> None:
        if self._refused:
            return
        # Outside of inference mode, whose tensors nobody outside of it could write to.
        with torch.inference_mode(False), torch.no_grad():
            inputs = map_tensors(args, torch.clone)
            try:
                replay, output = self._capture(lambda: self.function(*inputs))
                _shapes(output)
            except torch.OutOfMemoryError:
                raise
            except (RuntimeError, TypeError) as error:
                # Somebody's module may look at its numbers, or give what is no tensor.
                logger.warning("%s cannot be recorded as a CUDA graph: %s", self._name, error)
                self._refused = True
                self._graphs.clear()
                return
        self._graphs[key] = _Graph(inputs, replay, output)
        while len(self._graphs) > self._limit:
            self._graphs.popitem(last=False)


class _Graph:
    """One recording: where its input lies, how it is replayed, where its output lies."""

    def __init__(self, inputs: Any, replay: Callable[[], None], output: Any) -> None:
        self._inputs = tensors_of(inputs)
        self._replay = replay
        self._output = output

    def __call__(self, args: tuple[Any, ...]) -> Any:
        for place, value in zip(self._inputs, tensors_of(args), strict=True):
            place[: len(value)].copy_(value)
        self._replay()
        return self._output


def _shapes(value: Any) -> Hashable:
    """Equal for arguments that one recording serves. Raises TypeError for what none can serve."""
    if isinstance(value, Tensor):
        return value.shape, value.dtype
    if isinstance(value, dict):
        return tuple((name, _shapes(item)) for name, item in value.items())
    if type(value) in (list, tuple):
        return tuple(_shapes(item) for item in value)
    if value is None:
        return None
    raise TypeError(f"{type(value).__name__} is neither a tensor nor a list, tuple or dict of them")


class CudaGraphs:
    """The recorded parts of one model.

    Args:
        model: in evaluation mode, in its final precision and layout; its parts are replaced in place.
        box_rows, mask_rows: numbers of regions to record box heads, and mask and keypoint heads, for.
        memory_format: of the regions.
        capture: see :data:`Capture`; by default CUDA's, in one pool of memory.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        box_rows: Sequence[int],
        mask_rows: Sequence[int],
        memory_format: torch.memory_format = torch.contiguous_format,
        capture: Capture | None = None,
    ) -> None:
        self._capture = capture or _cuda_capture(next(model.parameters()).device)
        self._functions: list[GraphedFunction] = []
        self._undo: list[Undo] = []
        for path in _WHOLE:
            for module in modules_at(model, path):
                self._replace(module, "forward")
        for path in _BY_ROWS:
            for module in modules_at(model, path):
                rows = box_rows if path.endswith("box_head") else mask_rows
                name = _method_of_tensors(module)
                if name and rows:
                    self._replace(module, name, rows, memory_format)

    def _replace(
        self,
        module: nn.Module,
        name: str,
        rows: Sequence[int] = (),
        memory_format: torch.memory_format = torch.contiguous_format,
    ) -> None:
        before = vars(module).get(name)
        function = GraphedFunction(
            getattr(module, name),
            capture=self._capture,
            name=f"{type(module).__name__}.{name}",
            rows=rows,
            memory_format=memory_format,
        )
        # On the instance, so that names, parameters and hooks of the module stay what they are.
        setattr(module, name, function)
        self._functions.append(function)

        def undo() -> None:
            delattr(module, name)
            if before is not None:
                setattr(module, name, before)

        self._undo.append(undo)

    def __len__(self) -> int:
        """Recorded graphs of all parts."""
        return sum(map(len, self._functions))

    @contextlib.contextmanager
    def recording(self) -> Iterator[None]:
        """Within it, every shape that a part meets is recorded."""
        for function in self._functions:
            function.recording = True
        try:
            yield
        finally:
            for function in self._functions:
                function.recording = False

    def remove(self) -> None:
        """Give the model its own parts back, and the graphs' memory too."""
        while self._undo:
            self._undo.pop()()
        self._functions.clear()


def _method_of_tensors(head: nn.Module) -> str:
    """The method of a head that takes regions and gives a tensor; "" if it is not known."""
    if isinstance(head, MaskRCNNConvUpsampleHead):
        return "upsampled"
    if isinstance(head, BaseKeypointRCNNHead):
        return "layers"
    return "forward" if hasattr(head, "output_shape") else ""


def _cuda_capture(device: torch.device) -> Capture:
    """Records on a stream of its own, in one pool of memory for all that it records."""
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]  # torch's own
    pool = torch.cuda.graph_pool_handle()

    def capture(function: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream):
            for _ in range(RUNS_BEFORE_CAPTURE):
                function()
        graph = torch.cuda.CUDAGraph()
        # Only this thread is watched: others may upload pictures meanwhile.
        with (
            torch.cuda.device(device),
            torch.cuda.graph(graph, pool=pool, stream=stream, capture_error_mode="thread_local"),
        ):
            output = function()
        torch.cuda.current_stream(device).wait_stream(stream)
        return graph.replay, output

    return capture

"""Answers of the pipeline -> the outputs of the protocol: all instances of a request in one list.

Images differ in how many instances they have, so those of all images follow each other, R in all, and
``image_index`` tells whose each is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from service.errors import Unprocessable
from service.inference.detector import ModelDescription
from service.inference.pipeline import ImageAnswer
from service.open_inference.messages import BYTES, FLOAT32, INT64, OutputTensor

ERRORS = "errors"
MASKS = "masks_rle"
Found = Sequence[dict[str, Any]]


@dataclass(frozen=True)
class Output:
    """An output that a model has; -1 in ``shape`` is any number."""

    name: str
    datatype: str
    shape: tuple[int, ...]


def outputs_of(model: ModelDescription) -> list[Output]:
    """What a model answers with, unless a request names less; ``errors`` comes when it is named."""
    rotated = model.box_mode == "XYWHA_ABS"
    box = 5 if rotated else 4
    outputs: list[Output] = []
    if "instances" in model.outputs:
        outputs += [
            Output("pred_boxes", FLOAT32, (-1, box)),
            Output("scores", FLOAT32, (-1,)),
            Output("pred_classes", INT64, (-1,)),
            Output("class_names", BYTES, (-1,)),
            Output("image_index", INT64, (-1,)),
            Output("num_instances", INT64, (-1,)),
        ]
    if "masks" in model.outputs:
        outputs.append(Output(MASKS, BYTES, (-1,)))
    if "keypoints" in model.outputs:
        outputs.append(Output("pred_keypoints", FLOAT32, (-1, len(model.keypoint_names) or -1, 3)))
    if "proposals" in model.outputs:
        outputs += [
            Output("proposal_boxes", FLOAT32, (-1, box)),
            Output("objectness_logits", FLOAT32, (-1,)),
            Output("num_proposals", INT64, (-1,)),
        ]
    maps = [name for name in ("sem_seg", "panoptic_seg") if name in model.outputs]
    outputs += [Output(name, BYTES, (-1,)) for name in maps]
    return outputs


def check_outputs(wanted: Sequence[str], model: ModelDescription) -> None:
    """Refuse outputs that the model has not.

    Raises:
        Unprocessable: ``unknown_output``.
    """
    known = [output.name for output in outputs_of(model)] + [ERRORS]
    for name in wanted:
        if name not in known:
            raise Unprocessable(
                "unknown_output",
                f"This model has no output {name[:64]!r}; it has {', '.join(known)}.",
                known=known,
            )
        if wanted.count(name) > 1:
            raise Unprocessable("unknown_output", f"The output {name} is asked for twice.")


def encode_outputs(
    answers: Sequence[ImageAnswer],
    wanted: Sequence[str] | None,
    model: ModelDescription,
    *,
    masks: bool,
) -> list[OutputTensor]:
    """The outputs of a request in the order that was asked for; on a worker.

    Args:
        answers: of its images.
        wanted: names of outputs; None is all that the model has.
        model: the version that answered.
        masks: whether masks were asked of it.

    Raises:
        Unprocessable: ``unknown_output``: the version has been replaced by one that has it not.
    """
    if wanted is None:
        wanted = [output.name for output in outputs_of(model) if masks or output.name != MASKS]
    check_outputs(wanted, model)
    return [_encode(name, answers, model) for name in wanted]


def _encode(name: str, answers: Sequence[ImageAnswer], model: ModelDescription) -> OutputTensor:
    if name == ERRORS:
        bodies = [_json(answer.error.body()) if answer.error else b"" for answer in answers]
        return OutputTensor.elements(ERRORS, bodies)
    if name in ("sem_seg", "panoptic_seg"):
        maps = [(answer.outputs or {}).get(name) for answer in answers]
        return OutputTensor.elements(name, [_json(one) if one is not None else b"" for one in maps])
    if name in ("proposal_boxes", "objectness_logits", "num_proposals"):
        found = [(answer.outputs or {}).get("proposals", {}) for answer in answers]
        if name == "num_proposals":
            return OutputTensor.numbers(name, _counts(found, "objectness_logits"))
    else:
        found = [(answer.outputs or {}).get("instances", {}) for answer in answers]
    return _OF_INSTANCES.get(name, _joined)(name, found, model)


def _json(value: Any) -> bytes:
    return orjson.dumps(value, default=str, option=orjson.OPT_SERIALIZE_NUMPY)


def _counts(found: Found, key: str) -> NDArray[np.int64]:
    return np.array([len(one.get(key, ())) for one in found], dtype=np.int64)


def _joined(name: str, found: Found, model: ModelDescription) -> OutputTensor:
    """The arrays of all images behind each other."""
    output = next(output for output in outputs_of(model) if output.name == name)
    kind = np.float32 if output.datatype == FLOAT32 else np.int64
    arrays = [np.asarray(one[name], dtype=kind) for one in found if name in one]
    none = np.zeros([0, *(max(size, 0) for size in output.shape[1:])], dtype=kind)
    arrays = [array for array in arrays if len(array)]
    return OutputTensor.numbers(name, np.concatenate(arrays) if arrays else none)


def _num_instances(name: str, found: Found, model: ModelDescription) -> OutputTensor:
    return OutputTensor.numbers(name, _counts(found, "scores"))


def _image_index(name: str, found: Found, model: ModelDescription) -> OutputTensor:
    counts = _counts(found, "scores")
    return OutputTensor.numbers(name, np.repeat(np.arange(len(counts), dtype=np.int64), counts))


def _class_names(name: str, found: Found, model: ModelDescription) -> OutputTensor:
    names = [text.encode() for one in found for text in one.get("class_names", ())]
    return OutputTensor.elements(name, names)


def _masks(name: str, found: Found, model: ModelDescription) -> OutputTensor:
    return OutputTensor.elements(
        name, [_json(mask) for one in found for mask in one.get("masks", ())]
    )


_OF_INSTANCES: dict[str, Callable[[str, Found, ModelDescription], OutputTensor]] = {
    "num_instances": _num_instances,
    "image_index": _image_index,
    "class_names": _class_names,
    MASKS: _masks,
}

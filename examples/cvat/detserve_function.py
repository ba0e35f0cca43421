"""detserve as an auto-annotation function of CVAT, for ``cvat-cli`` and CVAT's agents.

    pip install cvat-cli
    cvat-cli --server-host https://app.cvat.ai task auto-annotate 137 \
        --function-file detserve_function.py -p url=str:http://localhost:8000 -p shape=str:mask

Nothing but cvat-sdk and the standard library is needed: the model runs in the server.
"""

from __future__ import annotations

import base64
import io
import json
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

import cvat_sdk.auto_annotation as cvataa
import cvat_sdk.models as models
import PIL.Image

TIMEOUT_S = 90


class DetserveFunction:
    """Asks one model of one server."""

    def __init__(
        self, url: str, model: str = "", shape: str = "rectangle", token: str = ""
    ) -> None:
        """Read the model's labels.

        Args:
            url: of the server, such as ``http://localhost:8000``.
            model: its name; empty: the model that answers requests which name none.
            shape: ``rectangle``, ``polygon`` or ``mask``.
            token: the server's inference token, if it has one.
        """
        if shape not in ("rectangle", "polygon", "mask"):
            raise ValueError(f"shape is {shape!r}; it is one of rectangle, polygon and mask.")
        self._url = url.rstrip("/")
        self._shape = shape
        self._headers = {"Content-Type": "application/json"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        models_answer = self._call("/models")
        self._model = model or models_answer["default"]
        described = {entry["name"]: entry for entry in models_answer["models"]}
        if self._model not in described:
            raise ValueError(f"The server has no model {model!r}; it has {', '.join(described)}.")
        self._least = described[self._model]["thresholds"]["score"]
        self._ids = {entry["name"]: entry["id"] for entry in described[self._model]["classes"]}
        self._spec = cvataa.DetectionFunctionSpec(
            labels=[
                cvataa.label_spec(name, number, type=shape) for name, number in self._ids.items()
            ]
        )

    @property
    def spec(self) -> cvataa.DetectionFunctionSpec:
        """The model's classes as labels."""
        return self._spec

    def detect(
        self, context: cvataa.DetectionFunctionContext, image: PIL.Image.Image
    ) -> list[models.LabeledShapeRequest]:
        """The shapes of one picture."""
        shape = self._shape
        if shape == "mask":
            # Run lengths, as CVAT's API takes them; pixels would be many times larger.
            shape = "polygon" if context.conv_mask_to_poly else "rle"
        body: dict[str, Any] = {"image": _as_base64(image)}
        if context.conf_threshold is not None:
            # Below its own threshold the model computes nothing.
            body["threshold"] = max(context.conf_threshold, self._least)
        query = urllib.parse.urlencode({"model": self._model, "shape": shape})
        return [self._shape_of(found) for found in self._call(f"/cvat/?{query}", body)]

    def _shape_of(self, found: dict[str, Any]) -> models.LabeledShapeRequest:
        label_id = self._ids[found["label"]]
        if found["type"] == "rectangle":
            rotation = found.get("rotation", 0)
            return cvataa.rectangle(label_id, found["points"], rotation=rotation)
        make = cvataa.polygon if found["type"] == "polygon" else cvataa.mask
        return make(label_id, found["points"])

    def _call(self, path: str, body: dict[str, Any] | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._url + path, data=data, headers=self._headers)
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            raise RuntimeError(_reason(error)) from error


def _as_base64(image: PIL.Image.Image) -> str:
    file = io.BytesIO()
    # Lossless, and quick to write: the picture goes to a server nearby.
    image.convert("RGB").save(file, "PNG", compress_level=1)
    return base64.b64encode(file.getvalue()).decode("ascii")


def _reason(error: urllib.error.HTTPError) -> str:
    """The server's own sentence."""
    try:
        return f"detserve: {json.load(error)['error']['message']}"
    except (ValueError, KeyError, TypeError):
        return f"detserve answers with status {error.code}."


create = DetserveFunction

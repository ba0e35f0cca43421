"""``function.yaml``: what Nuclio and CVAT have to know of a function that asks this server."""

from __future__ import annotations

import json
import re
from typing import Any

import yaml

from service.cvat.shapes import LABEL_TYPES, Shape
from service.inference.detector import ModelDescription


def function_yaml(name: str, model: ModelDescription, shape: Shape, *, url: str) -> str:
    """The file for ``nuctl deploy``, beside the handler in ``examples/cvat/nuclio``.

    Args:
        name: of the model.
        model: whose classes are the labels.
        shape: that the function asks for.
        url: of this server, as the function reaches it.
    """
    spec = [
        {"id": index, "name": label, "type": LABEL_TYPES[shape]}
        for index, label in enumerate(model.class_names)
    ]
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "model"
    function: dict[str, Any] = {
        "metadata": {
            "name": f"detserve-{slug}-{LABEL_TYPES[shape]}",
            "namespace": "cvat",
            "annotations": {
                "name": f"{name} ({LABEL_TYPES[shape]})",
                "type": "detector",
                "framework": "pytorch",
                "spec": json.dumps(spec, ensure_ascii=False),
            },
        },
        "spec": {
            "description": f"{model.architecture} {model.backbone}, served by detserve",
            "runtime": "python:3.11",
            "handler": "main:handler",
            "eventTimeout": "60s",
            "env": [
                {"name": "DETSERVE_URL", "value": url},
                {"name": "DETSERVE_MODEL", "value": name},
                {"name": "DETSERVE_SHAPE", "value": shape},
            ],
            "build": {
                "image": f"cvat.detserve.{slug}",
                "baseImage": "python:3.11-slim",
            },
            "triggers": {
                "http": {
                    "kind": "http",
                    "numWorkers": 4,
                    "workerAvailabilityTimeoutMilliseconds": 10_000,
                    "attributes": {"maxRequestBodySize": 32 * 2**20},
                }
            },
            "platform": {
                "attributes": {
                    "restartPolicy": {"name": "always", "maximumRetryCount": 3},
                    "mountMode": "volume",
                }
            },
        },
    }
    return yaml.safe_dump(function, sort_keys=False, allow_unicode=True)

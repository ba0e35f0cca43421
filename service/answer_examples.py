"""An example of each answer that is no error, for the OpenAPI document: real ones, made small.

Those of ``/predict`` and others with several forms stand with their routes; see :mod:`service.openapi`.
"""

from __future__ import annotations

from typing import Any

import service.model_examples as of
from service import __version__

_JSON = "application/json"
_BATCH = "0c5b9b3e7c4f4f4f9d2b7c1a5e8d6f00"


def _named(*operations: str, **statuses: Any) -> dict[tuple[str, str, str], Any]:
    """JSON of operations by ``s`` and the status."""
    return {
        (operation, status.removeprefix("s"), _JSON): example
        for operation in operations
        for status, example in statuses.items()
    }


_BATCH_BEGUN = {
    "id": _BATCH,
    "state": "running",
    "model": "shapes",
    "total": 1000,
    "done": 0,
    "errors": 0,
    "parts_done": 0,
    "parts_total": 1000,
    "versions": {},
    "eta_s": None,
    "created_at": "2026-01-31T12:00:00.000+00:00",
    "finished_at": None,
    "expires_at": None,
    "status": f"/predict/batch/{_BATCH}",
    "result": f"/predict/batch/{_BATCH}/result",
    "error": None,
}
_BATCH_RUNS = _BATCH_BEGUN | {
    "done": 250,
    "errors": 1,
    "parts_done": 252,
    "versions": {"2": 249},
    "eta_s": 30.0,
}
_BATCH_ENDED = _BATCH_BEGUN | {
    "state": "succeeded",
    "done": 1000,
    "errors": 1,
    "parts_done": 1000,
    "versions": {"2": 999},
    "eta_s": 0.0,
    "finished_at": "2026-01-31T12:00:40.000+00:00",
    "expires_at": "2026-01-31T13:00:40.000+00:00",
}
_LINES = (
    '{"index":1,"request_id":"'
    + _BATCH
    + '","model":{"name":"shapes","version":"2","architecture":'
    '"GeneralizedRCNN","weights_sha256":"' + of.MODEL["weights"]["sha256"] + '"},"image":{"name":'
    '"broken.png"},"error":{"code":"unsupported_image_format","message":"This is text; the allowed formats '
    'are JPEG, PNG, WebP, BMP, TIFF and GIF. Convert the image to one of them and send it again.","details":'
    '{"allowed":["JPEG","PNG","WebP","BMP","TIFF","GIF"],"detected":"text"}}}\n'
    '{"index":0,"request_id":"'
    + _BATCH
    + '","model":{"name":"shapes","version":"2","architecture":'
    '"GeneralizedRCNN","weights_sha256":"' + of.MODEL["weights"]["sha256"] + '"},"image":{"name":'
    '"disc.png","width":96,"height":72},"instances":{"box_mode":"XYXY_ABS","pred_boxes":[[32.91505,'
    '21.784163,64.67818,51.77359]],"pred_classes":[0],"class_names":["disc"],"scores":[0.99915123]},'
    '"batch_size":1,"timing_ms":{"decode":4.245,"queue":0.12,"inference":19.859,"encode":0.402}}\n'
)
_COCO = {
    "image_id": 0,
    "category_id": 1,
    "bbox": [32.91505, 21.784163, 31.763126, 29.989428],
    "score": 0.99915123,
}
_METRICS = (
    "# HELP detserve_http_requests_total Requests answered.\n"
    "# TYPE detserve_http_requests_total counter\n"
    'detserve_http_requests_total{code="200",method="POST",route="/predict"} 2.0\n'
)
_METADATA = {
    "name": "shapes",
    "versions": ["1", "2"],
    "platform": "detserve_pytorch",
    "inputs": [
        {"name": "IMAGE", "datatype": "BYTES", "shape": [-1]},
        {"name": "PIXELS", "datatype": "UINT8", "shape": [-1, -1, -1, 3]},
    ],
    "outputs": [
        {"name": "pred_boxes", "datatype": "FP32", "shape": [-1, 4]},
        {"name": "scores", "datatype": "FP32", "shape": [-1]},
        {"name": "pred_classes", "datatype": "INT64", "shape": [-1]},
        {"name": "class_names", "datatype": "BYTES", "shape": [-1]},
        {"name": "image_index", "datatype": "INT64", "shape": [-1]},
        {"name": "num_instances", "datatype": "INT64", "shape": [-1]},
        {"name": "masks_rle", "datatype": "BYTES", "shape": [-1]},
    ],
}
_INDEX = [
    {"name": "shapes", "version": "1", "state": "READY", "reason": ""},
    {"name": "shapes", "version": "2", "state": "READY", "reason": ""},
    {"name": "shapes", "version": "3", "state": "UNAVAILABLE", "reason": "not loaded"},
]
_REGION = {
    "id": "a9c5a9493d",
    "from_name": "label",
    "to_name": "image",
    "type": "rectanglelabels",
    "original_width": 96,
    "original_height": 72,
    "image_rotation": 0,
    "score": 0.9991512298583984,
    "value": {
        "x": 34.28651,
        "y": 30.25578,
        "width": 33.08659,
        "height": 41.65198,
        "rotation": 0,
        "rectanglelabels": ["Disc"],
    },
}
_PREDICTIONS = {
    "results": [{"result": [_REGION], "score": 0.9991512298583984, "model_version": "shapes@2"}]
}
_SHAPE = {
    "confidence": "0.999151",
    "label": "disc",
    "type": "rectangle",
    "points": [32.92, 21.78, 64.68, 51.77],
}
_FUNCTION = {
    "metadata": {
        "name": "detserve-shapes-rectangle",
        "namespace": "cvat",
        "annotations": {
            "name": "shapes (rectangle)",
            "type": "detector",
            "framework": "pytorch",
            "spec": '[{"id": 0, "name": "disc", "type": "rectangle"}]',
        },
    },
    "spec": {
        "description": "GeneralizedRCNN ResNet-50 FPN, served by detserve",
        "runtime": "python:3.11",
        "handler": "main:handler",
        "eventTimeout": "60s",
        "env": [
            {"name": "DETSERVE_URL", "value": "http://localhost"},
            {"name": "DETSERVE_MODEL", "value": "shapes"},
            {"name": "DETSERVE_SHAPE", "value": "rectangle"},
        ],
        "build": {"image": "cvat.detserve.shapes", "baseImage": "python:3.11-slim"},
        "triggers": {
            "http": {
                "kind": "http",
                "numWorkers": 4,
                "workerAvailabilityTimeoutMilliseconds": 10000,
                "attributes": {"maxRequestBodySize": 33554432},
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

ANSWER_EXAMPLES: dict[tuple[str, str, str], Any] = {
    **_named("list_models", s200={"default": "shapes", "models": [of.MODEL]}),
    **_named("get_model", s200=of.MODEL),
    **_named("get_version", s200=of.LOADED),
    **_named("unload_version", s200=of.UNLOADED),
    **_named("reload", s200=of.RELOAD_DONE, s202=of.RELOAD_BEGUN),
    **_named("rollback", s200=of.ROLLBACK_DONE, s202=of.ROLLBACK_BEGUN),
    **_named("load_version", "put_alias", s200=of.LOAD_DONE, s202=of.LOAD_BEGUN),
    **_named("get_reload", s200=of.RELOAD_DONE),
    **_named("put_shadow", s200=of.SHADOW_BEGUN, s201=of.SHADOW_BEGUN),
    **_named("get_shadow", "delete_shadow", s200=of.SHADOW_FOUND),
    **_named("upload_file", s201=of.FILE),
    **_named("complete_upload", s201=of.UPLOADED),
    **_named("start_batch", s202=_BATCH_BEGUN),
    **_named("get_batch", s200=_BATCH_RUNS),
    **_named("delete_batch", s200=_BATCH_ENDED),
    ("get_batch_result", "200", "application/x-ndjson"): _LINES,
    **_named("get_batch_result", s200=[_COCO]),
    **_named("livez", "readyz", s200={"status": "ok"}),
    ("metrics", "200", "text/plain"): _METRICS,
    **_named("v2_live", s200={"live": True}),
    **_named("v2_ready", s200={"ready": True, "live": True}),
    **_named(
        "v2_server",
        s200={
            "name": "detserve",
            "version": __version__,
            "extensions": ["binary_tensor_data", "model_repository"],
        },
    ),
    **_named("v2_get_model", "v2_get_model_version", s200=_METADATA),
    **_named("v2_model_ready", "v2_model_version_ready", s200={"name": "shapes", "ready": True}),
    **_named("v2_repository_index", s200=_INDEX),
    **_named(
        "v2_load",
        s200={
            "name": "shapes",
            "load": True,
            "version": "2",
            "job": "5e3b61f3221f4c1e890465ad12f9483a",
        },
    ),
    **_named("v2_unload", s200={"name": "shapes", "unload": True, "version": "2"}),
    **_named(
        "label_studio_health_get",
        "label_studio_health_of_model_get",
        s200={"status": "UP", "model_class": "GeneralizedRCNN"},
    ),
    **_named(
        "label_studio_setup_post",
        "label_studio_setup_of_model_post",
        s200={"model_version": "shapes@2"},
    ),
    **_named("label_studio_predict_post", "label_studio_predict_of_model_post", s200=_PREDICTIONS),
    **_named(
        "label_studio_webhook_post",
        "label_studio_webhook_of_model_post",
        s200={"status": "Unknown event"},
        s201={"result": None, "status": "ok"},
    ),
    **_named("cvat_detect", s200=[_SHAPE]),
    ("cvat_function_yaml", "200", "application/yaml"): _FUNCTION,
}
"""By the operation's id, the status and the media type."""

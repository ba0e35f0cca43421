"""What ``/docs`` says of ``POST /predict``: its three kinds of body, its options, real examples."""

from __future__ import annotations

from typing import Any

from service.routes import error_docs
from service.routes.deadline import DEADLINE_PARAMETER
from service.routes.predict_format_docs import FORMAT_CONTENT, FORMAT_HEADERS
from service.schemas.answers import PredictAnswer
from service.schemas.formats import CocoResult
from service.schemas.options import PredictOptions

# A disc of the embedded model, as the server answers it.
_EXAMPLE = {
    "model": {
        "name": "shapes",
        "version": "1",
        "architecture": "GeneralizedRCNN",
        "weights_sha256": "0" * 64,
    },
    "request_id": "4f1c0a",
    "predictions": [
        {
            "image": {"name": "photo.jpg", "width": 4, "height": 3},
            "instances": {
                "box_mode": "XYXY_ABS",
                "pred_boxes": [[1.0, 0.0, 4.0, 3.0]],
                "pred_classes": [0],
                "class_names": ["disc"],
                "scores": [0.98],
                "masks": [{"size": [3, 4], "counts": "41121N"}],
            },
            "batch_size": 1,
        },
        {
            "image": {"name": "broken.jpg"},
            "error": {"code": "invalid_image", "message": "The JPEG image is broken or cut short."},
        },
    ],
    "timing_ms": {"decode": 1.2, "queue": 0.1, "inference": 35.0, "encode": 0.8, "total": 37.4},
}


def _parameters() -> list[dict[str, Any]]:
    properties = PredictOptions.model_json_schema()["properties"]
    parameters = []
    for name, schema in properties.items():
        description = schema.pop("description")
        for key in ("title", "default"):
            schema.pop(key, None)
        examples = schema.pop("examples", [])
        # A query parameter is left out, not null.
        schema = next((s for s in schema.get("anyOf", []) if s != {"type": "null"}), schema)
        if schema.get("type") == "object":  # as text, or its keys would become parameters
            schema = {"type": "string"}
        parameter = {
            "name": name, "in": "query", "required": False, "description": description, "schema": schema,
        }  # fmt: skip
        if examples and not isinstance(examples[0], dict):
            parameter["example"] = examples[0]
        parameters.append(parameter)
    return parameters


def _json_body() -> dict[str, Any]:
    image = {
        "type": "string",
        "format": "byte",
        "description": "The image file in base64, or a data: URL.",
    }
    named = {
        "type": "object",
        "properties": {"name": {"type": "string"}, "data": image},
        "required": ["data"],
    }
    by_url = {
        "type": "object",
        "description": "Where the server was started with --allow-urls.",
        "properties": {
            "name": {"type": "string"},
            "url": {"type": "string", "format": "uri", "maxLength": 2048},
        },
        "required": ["url"],
    }
    options = PredictOptions.model_json_schema()["properties"]
    return {
        "type": "object",
        "properties": {
            "images": {"type": "array", "items": {"anyOf": [image, named, by_url]}},
            "image": {"anyOf": [image, named, by_url]},
        }
        | options,
    }


PREDICT_OPENAPI: dict[str, Any] = {
    "parameters": [*_parameters(), DEADLINE_PARAMETER],
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "images": {
                            "type": "array",
                            "items": {"type": "string", "format": "binary"},
                        },
                        "url": {
                            "type": "array",
                            "items": {"type": "string", "format": "uri"},
                            "description": "Where the server was started with --allow-urls.",
                        },
                    },
                }
            },
            "image/*": {"schema": {"type": "string", "format": "binary"}},
            "application/json": {
                "schema": _json_body(),
                "example": {
                    "images": [
                        {
                            "name": "dot.gif",
                            "data": "R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7",
                        }
                    ],
                    "score_threshold": 0.5,
                },
            },
            "application/x-ndjson": {
                "schema": {
                    "type": "string",
                    "description": "An image a line, as in the images of JSON; options as query.",
                },
                "example": '{"name": "dot.gif", "data": '
                '"R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"}\n',
            },
        },
    },
}

PREDICT_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "model": PredictAnswer | list[CocoResult],
        "description": "Instances of every image, or that image's own error; in other forms by format or "
        "Accept.",
        "headers": FORMAT_HEADERS,
        "content": {"application/json": {"example": _EXAMPLE}} | FORMAT_CONTENT,
    },
    **error_docs(
        (400, "malformed_json", "The request body is not valid JSON."),
        (400, "malformed_multipart", "The multipart body has no boundary."),
        (401, "token_required", "This route needs a token: send Authorization: Bearer <token>."),
        (404, "unknown_model", "There is no model 'car'; there are: shapes."),
        (404, "unknown_version", "'shapes' has no version '7'; there are: 1, 2."),
        (
            406,
            "not_acceptable",
            "The Accept header rules out every form of the answer; there are application/json, ...",
        ),
        (408, "request_timeout", "The body arrived too slowly."),
        (
            409,
            "version_not_loaded",
            "Version 3 of 'shapes' is not loaded. Load it with POST /models/shapes/versions/3/load.",
        ),
        (413, "body_too_large", "The body has 70000000 bytes; the limit is 67108864."),
        (413, "image_too_large", "The image has 2500000000 pixels; the limit is 50000000."),
        (415, "unsupported_image_format", "This is no JPEG, PNG, WebP, BMP, TIFF or GIF image."),
        (
            413,
            "url_too_large",
            "The file behind the URL has 70000000 bytes; the limit is 67108864.",
        ),
        (
            422,
            "invalid_timeout",
            "X-Request-Timeout-Ms is a whole number of milliseconds, from 1 to 9999999999.",
        ),
        (422, "urls_disabled", "This server fetches no URLs; send the bytes of the image."),
        (422, "url_not_allowed", "The host 'localhost' has no public address."),
        (422, "url_failed", "The URL could not be fetched: its server answers with status 404."),
        (422, "invalid_image", "The JPEG image is broken or cut short."),
        (
            422,
            "unknown_class",
            "The model has no class 'car'; its 4 classes are disc, rectangle, triangle, star.",
        ),
        (422, "score_threshold_too_low", "score_threshold 0.01 is below the model's own, 0.05."),
        (
            422,
            "max_detections_too_high",
            "max_detections 2000 is above 1000, the most that this server lets a model keep.",
        ),
        (
            422,
            "override_not_supported",
            "This model, a ProposalNetwork, has no NMS whose threshold a request can set; leave "
            "nms_threshold out.",
        ),
        (
            422,
            "one_image_only",
            "format=png is one picture, and the request has 2 images. Send one at a time.",
        ),
        (
            422,
            "format_not_supported",
            "format=csv tells instances, and this model finds none; it gives proposals.",
        ),
        (
            422,
            "tta_not_supported",
            "There is no test-time augmentation for this kind of model; leave tta out.",
        ),
        (
            422,
            "proposals_required",
            "This model has no proposal generator: send proposals, a list of boxes for each image.",
        ),
        (
            422,
            "proposals_not_taken",
            "This model makes its own proposals; leave proposals out.",
        ),
        (
            429,
            "queue_full",
            "The server is busy with 128 images and takes 128 at most. Try again in 2 s.",
        ),
        (503, "draining", "The server is shutting down. Try another replica."),
        (504, "deadline_missed", "The answer was not ready within 60 s."),
        (507, "out_of_device_memory", "This image alone does not fit the device's memory."),
    ),
}

"""``GET /models/{name}/categories.json``: the classes as COCO's tools want them."""

from __future__ import annotations

from typing import Any

import orjson
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from service.encoding.formats.coco import coco_categories
from service.routes import error_docs, runtime_of
from service.schemas.formats import CategoryAnswer

router = APIRouter(tags=["models"])

_OK: dict[int | str, dict[str, Any]] = {
    200: {
        "model": list[CategoryAnswer],
        "description": "The categories.",
        "content": {
            "application/json": {
                "example": [
                    {"id": 1, "name": "disc", "supercategory": ""},
                    {"id": 2, "name": "rectangle", "supercategory": ""},
                ]
            }
        },
    }
}


@router.get(
    "/models/{name}/categories.json",
    responses=_OK
    | error_docs(
        (401, "token_required", "This route needs a token: send Authorization: Bearer <token>."),
        (404, "unknown_model", "There is no model 'car'; there are: shapes."),
        (503, "not_ready", "No model is loaded yet. Try again soon."),
    ),
)
async def get_categories(request: Request, name: str) -> Response:
    """COCO's `categories` of the current version.

    The ids are those of `format=coco`: the data set's own where they are known, else the class id plus 1.
    Of a model with a semantic map alone, its classes by their values in the map.
    """
    runtime = runtime_of(request)
    runtime.inference.check(request)
    description = runtime.repository.get(name).current.detector.description
    return Response(orjson.dumps(coco_categories(description)), media_type="application/json")

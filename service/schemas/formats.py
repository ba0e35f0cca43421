"""Answers in other forms than native JSON, for OpenAPI and for the tests that hold answers against them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from service.schemas.answers import Answer, Box, ModelRef, Point, Prediction, Rle


class LineTiming(Answer):
    """Milliseconds of one image."""

    decode: float
    queue: float
    inference: float
    encode: float


class PredictLine(Prediction):
    """A line of ``POST /predict`` as NDJSON: one image."""

    index: int = Field(description="Its place in the request, from 0; lines come as images finish.")
    request_id: str
    model: ModelRef | None = Field(None, description="Absent if the image did not come so far.")
    timing_ms: LineTiming | None = None


class CocoResult(Answer):
    """An instance as COCO's tools read it, with ``format=coco``."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "image_id": 397133,
                    "category_id": 1,
                    "bbox": [1.0, 0.0, 3.0, 3.0],
                    "score": 0.98,
                    "segmentation": {"size": [3, 4], "counts": "41121N"},
                }
            ]
        }
    )

    image_id: int = Field(
        description="The number that the file is named after; if not all of a request have one of their "
        "own, its place in the request, from 0."
    )
    category_id: int = Field(description="As in GET /models/{name}/categories.json.")
    bbox: Box = Field(description="Left, top, width, height in pixels; of rotated boxes XYWHA.")
    score: float
    segmentation: Rle | None = None
    keypoints: list[float] | None = Field(
        None, description="x, y, score of each; 0 is the centre of the first pixel."
    )


class GeoPolygon(Answer):
    """Rings in pixels: the exterior, then holes; each ends where it begins."""

    type: Literal["Polygon"]
    coordinates: list[list[Point]]


class GeoMultiPolygon(Answer):
    """Several polygons."""

    type: Literal["MultiPolygon"]
    coordinates: list[list[list[Point]]]


class GeoProperties(Answer):
    """What a feature is."""

    image: str
    image_index: int = Field(description="Place in the request, from 0.")
    class_id: int
    class_name: str
    score: float


class GeoFeature(Answer):
    """An instance: its mask, or its box if there are no masks."""

    type: Literal["Feature"]
    bbox: Annotated[list[float], Field(min_length=4, max_length=4)]
    geometry: GeoPolygon | GeoMultiPolygon | None = Field(description="null: the mask is empty.")
    properties: GeoProperties


class GeoImage(Answer):
    """An image that could be used."""

    index: int
    name: str
    width: int
    height: int


class GeoError(Answer):
    """An image that could not be used."""

    index: int
    name: str
    code: str
    message: str
    details: dict[str, Any] | None = None


class GeoJsonAnswer(Answer):
    """The answer with ``format=geojson``, in pixels: x to the right, y down from the top left corner."""

    type: Literal["FeatureCollection"]
    features: list[GeoFeature]
    images: list[GeoImage]
    errors: list[GeoError]


class CategoryAnswer(Answer):
    """A category of COCO's."""

    id: int
    name: str
    supercategory: str = Field(description="Not known: always empty.")
    keypoints: list[str] | None = None
    skeleton: list[tuple[int, int]] | None = Field(
        None, description="Pairs of keypoints, counted from 1."
    )

"""What ``/docs`` says of the forms of an answer beside native JSON, each with an example."""

from __future__ import annotations

from typing import Any

from service.routes import inlined_schema
from service.schemas.formats import GeoJsonAnswer, PredictLine

_LINE = (
    '{"index":0,"request_id":"4f1c0a","model":{"name":"shapes","version":"1","architecture":'
    '"GeneralizedRCNN","weights_sha256":"' + "0" * 64 + '"},"image":{"name":"photo.jpg","width":4,'
    '"height":3},"instances":{"box_mode":"XYXY_ABS","pred_boxes":[[1.0,0.0,4.0,3.0]],"pred_classes":[0],'
    '"class_names":["disc"],"scores":[0.98],"masks":[{"size":[3,4],"counts":"41121N"}]},"batch_size":1,'
    '"timing_ms":{"decode":1.2,"queue":0.1,"inference":35.0,"encode":0.8}}\n'
    '{"index":1,"request_id":"4f1c0a","image":{"name":"broken.jpg"},"error":{"code":"invalid_image",'
    '"message":"The JPEG image is broken or cut short."}}\n'
)
_TABLE = (
    "image,width,height,class_id,class_name,score,x1,y1,x2,y2\r\n"
    "photo.jpg,4,3,0,disc,0.98,1.0,0.0,4.0,3.0\r\n"
)
_FEATURES = {
    "type": "FeatureCollection",
    "features": [
        {
            "type": "Feature",
            "bbox": [1.0, 0.0, 4.0, 3.0],
            "geometry": {
                "type": "Polygon",
                "coordinates": [[[1.0, 0.0], [4.0, 0.0], [4.0, 3.0], [1.0, 3.0], [1.0, 0.0]]],
            },
            "properties": {
                "image": "photo.jpg",
                "image_index": 0,
                "class_id": 0,
                "class_name": "disc",
                "score": 0.98,
            },
        }
    ],
    "images": [{"index": 0, "name": "photo.jpg", "width": 4, "height": 3}],
    "errors": [
        {
            "index": 1,
            "name": "broken.jpg",
            "code": "invalid_image",
            "message": "The JPEG image is broken or cut short.",
        }
    ],
}
_LINE_SCHEMA = {
    "type": "string",
    "description": "A JSON object a line, one for each image.",
    "contentMediaType": "application/json",
    "contentSchema": inlined_schema(PredictLine),
}
_PICTURE = {"schema": {"type": "string", "format": "binary"}}

FORMAT_CONTENT: dict[str, dict[str, Any]] = {
    "application/x-ndjson": {"schema": _LINE_SCHEMA, "example": _LINE},
    "text/csv": {"schema": {"type": "string"}, "example": _TABLE},
    "application/geo+json": {"schema": inlined_schema(GeoJsonAnswer), "example": _FEATURES},
    "image/png": _PICTURE,
    "image/jpeg": _PICTURE,
    "image/webp": _PICTURE,
}

FORMAT_HEADERS: dict[str, dict[str, Any]] = {
    "Server-Timing": {
        "description": "Milliseconds by stage, of the slowest image, and of the whole; not of ndjson, whose "
        "lines tell their own.",
        "schema": {"type": "string"},
        "example": "decode;dur=1.200, queue;dur=0.100, inference;dur=35.000, encode;dur=0.800, "
        "total;dur=37.400",
    },
    "X-Model-Version": {
        "description": "name:version that answered; of coco, csv, geojson and pictures.",
        "schema": {"type": "string"},
        "example": "shapes:1",
    },
    "X-Failed-Images": {
        "description": "Images that coco, csv or geojson leave out, by their place in the request from 0, "
        "each with the code of its error.",
        "schema": {"type": "string"},
        "example": "1=invalid_image, 4=image_too_large",
    },
}

"""What schemathesis sends: also what is there, since made-up names and bytes would all end at 404 or 415.

It runs in the environment of the third-party clients, where nothing of this project is installed.
"""

import base64
import io
import json
import zipfile
from collections.abc import Iterator
from typing import Any

import schemathesis
from hypothesis import strategies as st

GIF = base64.b64decode("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7")
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC"
)


def _zip() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.gif", GIF)
        archive.writestr("folder/b.png", PNG)
    return file.getvalue()


FILES = st.sampled_from([GIF, PNG, PNG[:40], _zip(), b"", b"\x00" * 64]) | st.binary(max_size=64)
NAMES = {
    "name": ["shapes", "shapes", "shapes", "other"],
    "version": ["1", "2", "3", "4", "current", "candidate", "9"],
    "alias": ["candidate", "stable"],
    "file": ["config.yaml", "model_final.pth", "folder/notes.txt"],
    "job_id": [],
}
"""Parts of paths that a server may know."""

schemathesis.openapi.format("binary", FILES)
schemathesis.openapi.format("byte", FILES.map(lambda file: base64.b64encode(file).decode()))
for media_type in ("image/*", "application/zip", "application/octet-stream"):
    schemathesis.openapi.media_type(media_type, FILES)


MAX_ITEMS, MAX_LENGTH = 12, 200
"""Longer ones, of which the server takes tens of thousands, would leave no time for anything else."""


@schemathesis.hook
def before_load_schema(context: Any, raw_schema: dict[str, Any]) -> None:
    """Short lists and texts, and never a form without an image, which all ends in the same refusal."""
    for node in _nodes(raw_schema):
        for key, most in (("maxItems", MAX_ITEMS), ("maxLength", MAX_LENGTH)):
            if isinstance(node.get(key), int):
                node[key] = min(node[key], most)
    for path in ("/predict", "/predict/batch"):
        content = raw_schema["paths"][path]["post"]["requestBody"]["content"]
        form = content["multipart/form-data"]["schema"]
        form["required"] = ["images"]
        form["properties"]["images"] |= {"minItems": 1, "maxItems": 3}
    body = raw_schema["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]
    body["schema"]["required"] = ["images"]
    body["schema"]["properties"]["images"] |= {"minItems": 1, "maxItems": 3}


def _nodes(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _nodes(item)


@schemathesis.hook
def map_path_parameters(context: Any, path_parameters: dict[str, Any] | None) -> Any:
    """Every other made-up part of a path becomes one that may be there."""
    known = dict(path_parameters or {})
    for name, value in known.items():
        chosen = sum(str(value).encode(errors="replace"))
        if NAMES.get(name) and chosen % 2 == 0:
            known[name] = NAMES[name][chosen // 2 % len(NAMES[name])]
    return known


@schemathesis.hook
def map_query(context: Any, query: dict[str, Any] | None) -> Any:
    """Fewer options in the query."""
    return _thinned(query) if isinstance(query, dict) else query


@schemathesis.hook
def map_body(context: Any, body: Any) -> Any:
    """Fewer options in the body of a prediction."""
    return _thinned(body) if isinstance(body, dict) and "images" in body else body


def _thinned(options: dict[str, Any]) -> dict[str, Any]:
    """A quarter of the options: a request with many made-up ones is always refused for some."""
    kept = {}
    for name, value in options.items():
        chosen = sum(f"{name}={value}".encode(errors="replace"))
        if name == "images" or chosen % 4 == 0:
            kept[name] = {"model": "shapes", "version": "current"}.get(name, value)
    return kept


@schemathesis.hook
def after_call(context: Any, case: Any, response: Any) -> None:
    """A job that was begun can be asked for."""
    if response.status_code == 202:
        NAMES["job_id"].append(response.json()["id"])


@schemathesis.serializer("application/x-ndjson")
def lines(context: Any, value: Any) -> bytes:
    """Text as it is, anything else as a line."""
    return value.encode(errors="replace") if isinstance(value, str) else json.dumps(value).encode()

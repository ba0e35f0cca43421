"""What /docs says of the forms of an answer: all of them, with examples that hold."""

import csv
import io
import json
from typing import Any

import pytest
from fake_server import Serve

from service.encoding.formats.negotiation import MEDIA_TYPES
from service.encoding.formats.table import COLUMNS
from service.schemas.formats import CocoResult, GeoJsonAnswer, PredictLine

pytestmark = pytest.mark.anyio


async def answer(serve: Serve) -> dict[str, Any]:
    openapi = (await serve().client.get("/openapi.json")).json()
    found: dict[str, Any] = openapi["paths"]["/predict"]["post"]["responses"]["200"]
    return found


async def test_every_type_of_answer_is_documented(serve: Serve) -> None:
    content = (await answer(serve))["content"]
    assert set(content) == {kind.partition(";")[0] for kind in MEDIA_TYPES.values()}
    for kind, described in content.items():
        assert described["schema"]
        assert kind.startswith("image/") or "example" in described


async def test_the_examples_are_answers(serve: Serve) -> None:
    content = (await answer(serve))["content"]
    lines = content["application/x-ndjson"]["example"].splitlines()
    assert [PredictLine.model_validate(json.loads(line)).index for line in lines] == [0, 1]
    table = csv.DictReader(io.StringIO(content["text/csv"]["example"]))
    assert tuple(table.fieldnames or ()) == COLUMNS
    assert [line["class_name"] for line in table] == ["disc"]
    GeoJsonAnswer.model_validate(content["application/geo+json"]["example"])


async def test_json_is_the_native_answer_or_coco_results_with_an_example(serve: Serve) -> None:
    openapi = (await serve().client.get("/openapi.json")).json()
    content = openapi["paths"]["/predict"]["post"]["responses"]["200"]["content"]
    native, coco = content["application/json"]["schema"]["anyOf"]
    assert native["$ref"].endswith("/PredictAnswer")
    assert coco["items"]["$ref"].endswith("/CocoResult")
    [example] = openapi["components"]["schemas"]["CocoResult"]["examples"]
    CocoResult.model_validate(example)


async def test_the_headers_of_other_forms_are_documented(serve: Serve) -> None:
    assert set((await answer(serve))["headers"]) >= {"X-Model-Version", "X-Failed-Images"}

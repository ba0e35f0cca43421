"""/docs without a network, and an OpenAPI document that holds."""

import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from coco_files import DatasetFiles
from fake_repository import FolderLoader, make_version
from fake_server import Serve, Served
from pycocotools import mask as coco
from pydantic import BaseModel
from schema_checks import faults

from service.answer_examples import ANSWER_EXAMPLES
from service.schemas.answers import ErrorAnswer, PredictAnswer
from service.schemas.cvat import CvatRequest
from service.schemas.label_studio import LabelStudioEvent, LabelStudioPredict, LabelStudioSetup
from service.schemas.open_inference import InferBody, LoadBody, UnloadBody
from service.schemas.options import PredictOptions
from service.schemas.reload import AliasRequest, LoadRequest, ReloadRequest, RollbackRequest
from service.schemas.shadow import ShadowRequest
from service.schemas.uploads import CompleteRequest

pytestmark = pytest.mark.anyio

BODIES: dict[tuple[str, str], type[BaseModel]] = {
    ("post", "/reload"): ReloadRequest,
    ("post", "/models/{name}/rollback"): RollbackRequest,
    ("post", "/models/{name}/versions/{version}/load"): LoadRequest,
    ("post", "/models/{name}/versions/{version}/complete"): CompleteRequest,
    ("put", "/models/{name}/aliases/{alias}"): AliasRequest,
    ("put", "/models/{name}/shadow"): ShadowRequest,
    ("post", "/cvat/"): CvatRequest,
    ("post", "/label-studio/setup"): LabelStudioSetup,
    ("post", "/label-studio/predict"): LabelStudioPredict,
    ("post", "/label-studio/webhook"): LabelStudioEvent,
    ("post", "/label-studio/models/{name}/setup"): LabelStudioSetup,
    ("post", "/label-studio/models/{name}/predict"): LabelStudioPredict,
    ("post", "/label-studio/models/{name}/webhook"): LabelStudioEvent,
    ("post", "/v2/models/{name}/infer"): InferBody,
    ("post", "/v2/models/{name}/versions/{version}/infer"): InferBody,
    ("post", "/v2/repository/models/{name}/load"): LoadBody,
    ("post", "/v2/repository/models/{name}/unload"): UnloadBody,
}
"""What the JSON bodies of the routes are, but that of a prediction, whose options depend on the model."""


class Assets(HTMLParser):
    """Every address that a page loads."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value for name, value in attrs if name in ("src", "href") and value]


async def document(served: Served) -> dict[str, Any]:
    response = await served.client.get("/openapi.json")
    assert response.status_code == 200
    found: dict[str, Any] = response.json()
    return found


def operations(openapi: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in openapi["paths"].items():
        for method, operation in item.items():
            yield path, method, operation


def nodes(value: Any) -> Iterator[dict[str, Any]]:
    """Every object within a document."""
    if isinstance(value, dict):
        yield value
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from nodes(item)


def media(responses: dict[str, Any]) -> Iterator[tuple[int, dict[str, Any]]]:
    for status, response in responses.items():
        for content in response.get("content", {}).values():
            yield int(status), content


async def test_the_page_loads_nothing_from_elsewhere(serve: Serve) -> None:
    client = serve().client
    page = await client.get("/docs")
    assert page.status_code == 200
    addresses = Assets(page.text).addresses
    assert any(address.endswith(".js") for address in addresses)
    assert any(address.endswith(".css") for address in addresses)
    for address in addresses:
        assert urlsplit(address).netloc == ""
        asset: httpx.Response = await client.get(address)
        assert asset.status_code == 200
        assert asset.content
    assert not re.search(r"https?://(?!localhost)", page.text)


async def test_every_reference_resolves(serve: Serve) -> None:
    openapi = await document(serve())
    references = {node["$ref"] for node in nodes(openapi) if "$ref" in node}
    assert references
    for reference in references:
        found: Any = openapi
        root, *steps = reference.split("/")
        assert root == "#"
        for step in steps:
            found = found[step]


async def test_it_is_openapi_3_1_with_all_that_is_required(serve: Serve) -> None:
    openapi = await document(serve())
    assert openapi["openapi"].startswith("3.1.")
    assert openapi["info"]["title"] == "detserve"
    assert openapi["info"]["version"]
    assert "servers" not in openapi
    ids = [operation["operationId"] for _, _, operation in operations(openapi)]
    assert len(ids) == len(set(ids))
    assert all(re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name) for name in ids)
    for path, method, operation in operations(openapi):
        assert method in {"get", "post", "put", "delete"}
        assert operation["responses"]
        for status, response in operation["responses"].items():
            assert re.fullmatch(r"[1-5]\d\d", status)
            assert response["description"]
        parameters = operation.get("parameters", [])
        keys = [(parameter["in"], parameter["name"]) for parameter in parameters]
        assert len(keys) == len(set(keys))
        assert all("schema" in parameter for parameter in parameters)
        templated = set(re.findall(r"{(\w+)}", path))
        assert {name for place, name in keys if place == "path"} == templated


async def test_every_operation_says_what_it_does(serve: Serve) -> None:
    for _, _, operation in operations(await document(serve())):
        assert operation["summary"]
        assert operation["description"]
        assert len(operation["tags"]) == 1  # else the page shows it twice


async def test_every_group_is_described_and_used(serve: Serve) -> None:
    openapi = await document(serve())
    described = [tag["name"] for tag in openapi["tags"] if tag["description"]]
    used = {operation["tags"][0] for _, _, operation in operations(openapi)}
    assert len(described) == len(set(described))
    assert set(described) == used


async def test_each_route_says_which_token_it_takes(serve: Serve) -> None:
    openapi = await document(serve())
    schemes = openapi["components"]["securitySchemes"]
    assert {scheme["scheme"] for scheme in schemes.values()} == {"bearer"}
    for path, method, operation in operations(openapi):
        tokens = {token for choice in operation.get("security", []) for token in choice}
        assert tokens <= set(schemes)
        assert bool(tokens) == ("401" in operation["responses"]), f"{method} {path}"
        # A server without a token takes none.
        assert not tokens or {} in operation["security"]
    paths = openapi["paths"]
    assert paths["/predict"]["post"]["security"] == [{}, {"inference_token": []}]
    assert paths["/models"]["get"]["security"] == [{}, {"inference_token": []}]
    assert paths["/reload"]["post"]["security"] == [{}, {"admin_token": []}]
    load = paths["/v2/repository/models/{name}/load"]["post"]
    assert load["security"] == [{}, {"admin_token": []}]


async def test_each_route_asks_for_the_token_that_it_names(serve: Serve) -> None:
    served = serve(inference_token="inference", admin_token="admin")
    openapi = await document(served)
    for path, method, operation in operations(openapi):
        url = re.sub(r"{\w+}", "shapes", path)
        json_body = {} if method in ("post", "put") else None
        response = await served.client.request(method, url, json=json_body)
        guarded = response.status_code == 401
        assert guarded == ("security" in operation), f"{method} {path}: {response.text}"


async def test_every_route_is_documented(serve: Serve) -> None:
    paths = (await document(serve()))["paths"]
    assert set(paths) == {
        "/predict", "/models", "/models/{name}", "/models/{name}/categories.json", "/models/{name}/rollback",
        "/models/{name}/shadow",
        "/models/{name}/versions/{version}", "/models/{name}/versions/{version}/load",
        "/models/{name}/versions/{version}/unload", "/models/{name}/versions/{version}/complete",
        "/models/{name}/versions/{version}/upload",
        "/models/{name}/versions/{version}/files/{file}", "/models/{name}/aliases/{alias}",
        "/reload", "/reload/{job_id}", "/livez", "/readyz", "/metrics",
        "/predict/batch", "/predict/batch/{job_id}", "/predict/batch/{job_id}/result",
        "/cvat/", "/cvat/function.yaml",
        "/v2", "/v2/health/live", "/v2/health/ready", "/v2/repository/index",
        "/v2/repository/models/{name}/load", "/v2/repository/models/{name}/unload",
        *(
            f"/v2/models/{{name}}{version}{route}"
            for version in ("", "/versions/{version}")
            for route in ("", "/ready", "/infer")
        ),
        *(
            f"/label-studio{model}/{route}"
            for model in ("", "/models/{name}")
            for route in ("health", "setup", "predict", "webhook")
        ),
    }  # fmt: skip


async def test_each_error_has_the_shape_of_its_protocol(serve: Serve) -> None:
    openapi = await document(serve())
    assert "HTTPValidationError" not in openapi["components"]["schemas"]
    for path, method, operation in operations(openapi):
        assert "431" in operation["responses"], f"{method} {path}"
        for status, content in media(operation["responses"]):
            if status >= 400 and status != 503:  # which the probes answer with what they know
                shape = content["schema"]["$ref"].rpartition("/")[2]
                allowed = (
                    {"ErrorAnswer", "ProtocolError"} if path.startswith("/v2") else {"ErrorAnswer"}
                )
                assert shape in allowed, f"{method} {path} {status}"


async def test_every_example_of_an_error_is_one_under_its_own_code(serve: Serve) -> None:
    number = 0
    for _, _, operation in operations(await document(serve())):
        for status, content in media(operation["responses"]):
            for code, example in content.get("examples", {}).items():
                if status < 400:
                    continue
                assert ErrorAnswer.model_validate(example["value"]).error.code == code
                number += 1
    assert number > 15


async def test_the_example_of_an_answer_is_one_and_its_masks_decode(serve: Serve) -> None:
    openapi = await document(serve())
    responses = openapi["paths"]["/predict"]["post"]["responses"]
    example = responses["200"]["content"]["application/json"]["example"]
    answer = PredictAnswer.model_validate(example)
    first = answer.predictions[0]
    assert first.instances is not None
    assert first.instances.masks is not None
    for mask in first.instances.masks:
        assert mask.size == [first.image.height, first.image.width]
        assert coco.decode({"size": mask.size, "counts": mask.counts.encode()}).any()


async def test_every_answer_has_an_example_that_its_schema_takes(serve: Serve) -> None:
    openapi = await document(serve())
    number = 0
    for path, method, operation in operations(openapi):
        for status, content in media(operation["responses"]):
            # Raw bytes are nothing that JSON could show.
            if status >= 300 or content["schema"].get("format") == "binary":
                continue
            named = [example["value"] for example in content.get("examples", {}).values()]
            examples = named or [content["example"]]
            for example in examples:
                found = faults(example, content["schema"], openapi)
                assert not found, f"{method} {path} {status}: {found}"
                number += 1
    assert number > 40


async def test_an_example_without_a_key_or_with_one_too_many_would_be_found(serve: Serve) -> None:
    openapi = await document(serve())
    schema = {"$ref": "#/components/schemas/VersionAnswer"}
    example = dict(ANSWER_EXAMPLES["get_version", "200", "application/json"])
    assert faults(example | {"size": 1}, schema, openapi) == ["$: size is too much"]
    assert faults(example | {"current": 1}, schema, openapi) == ["$.current: 1 is no boolean"]
    del example["manifest"]
    assert faults(example, schema, openapi) == ["$: manifest is missing"]
    assert faults("2", {"type": "string", "pattern": "^2$"}, openapi)  # not passed over


async def test_no_example_is_of_an_answer_that_there_is_not(serve: Serve) -> None:
    there = {
        (operation["operationId"], status, kind)
        for _, _, operation in operations(await document(serve()))
        for status, response in operation["responses"].items()
        for kind in response.get("content", {})
    }
    assert set(ANSWER_EXAMPLES) <= there


@pytest.mark.parametrize(
    ("path", "operation"),
    [
        ("/models", "list_models"),
        ("/models/shapes", "get_model"),
        ("/models/shapes/versions/1", "get_version"),
        ("/livez", "livez"),
        ("/readyz", "readyz"),
        ("/v2", "v2_server"),
        ("/v2/health/live", "v2_live"),
        ("/v2/health/ready", "v2_ready"),
        ("/v2/models/shapes", "v2_get_model"),
        ("/v2/models/shapes/ready", "v2_model_ready"),
        ("/label-studio/health", "label_studio_health_get"),
    ],
)
async def test_an_example_has_the_keys_of_the_answer(
    serve: Serve, path: str, operation: str
) -> None:
    response = await serve().client.get(path)
    assert response.status_code == 200, response.text
    example = ANSWER_EXAMPLES[operation, "200", "application/json"]
    assert set(response.json()) == set(example)


async def test_the_headers_of_every_answer_are_documented_and_there(serve: Serve) -> None:
    served = serve()
    openapi = await document(served)
    for path, method, operation in operations(openapi):
        for status, response in operation["responses"].items():
            named = {"X-Request-ID"} | ({"traceparent", "tracestate"} if status != "431" else set())
            assert named <= set(response["headers"]), f"{method} {path} {status}"
            assert ("Retry-After" in response["headers"]) == (status == "429")
    headers = openapi["components"]["headers"]
    sent = {name: headers[name]["example"] for name in ("traceparent", "tracestate")}
    sent["X-Request-ID"] = headers["X-Request-ID"]["example"]
    for path in ("/livez", "/models/car"):
        came = (await served.client.get(path, headers=sent)).headers
        assert came["X-Request-ID"] == sent["X-Request-ID"]
        assert came["tracestate"] == sent["tracestate"]
        assert came["traceparent"].split("-")[1] == sent["traceparent"].split("-")[1]


async def test_the_example_of_a_request_is_answered(serve: Serve) -> None:
    served = serve()
    openapi = await document(served)
    body = openapi["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]
    response = await served.client.post("/predict", json=body["example"])
    PredictAnswer.model_validate(response.json())
    assert response.status_code == 200


@pytest.mark.parametrize(("method", "path"), BODIES)
async def test_a_body_is_documented_with_all_of_its_keys_and_with_examples(
    serve: Serve, method: str, path: str
) -> None:
    operation = (await document(serve()))["paths"][path][method]
    body = operation["requestBody"]["content"]["application/json"]
    schema = BODIES[method, path]
    assert set(body["schema"]["properties"]) == set(schema.model_json_schema()["properties"])
    assert body["examples"]
    for example in body["examples"].values():
        schema.model_validate(example["value"])


async def test_a_schema_within_a_body_stands_in_its_place(serve: Serve) -> None:
    operation = (await document(serve()))["paths"]["/reload"]["post"]
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    assert "$defs" not in schema
    gate = next(kind for kind in schema["properties"]["gate"]["anyOf"] if "properties" in kind)
    assert {"dataset", "min_ap", "max_drop"} <= set(gate["properties"])
    assert "under the model root" in schema["properties"]["gate"]["description"]


async def test_no_route_with_a_body_is_left_out_of_these_tests(serve: Serve) -> None:
    with_body = {
        (method, path)
        for path, method, operation in operations(await document(serve()))
        if "application/json" in operation.get("requestBody", {}).get("content", {})
    }
    unread = ("post", "/models/{name}/versions/{version}/unload")
    assert with_body == {*BODIES, ("post", "/predict"), unread}


async def test_the_examples_of_what_changes_a_model_are_taken(serve: Serve, tmp_path: Path) -> None:
    for label in ("1", "2", "3"):
        make_version(tmp_path, label)
    dataset = DatasetFiles(tmp_path / "shapes")
    dataset.content["categories"] = [{"id": 5, "name": "disc"}, {"id": 2, "name": "square"}]
    (tmp_path / "shapes" / "val.json").write_text(json.dumps(dataset.content))
    for picture in (tmp_path / "shapes" / "set").iterdir():
        picture.rename(tmp_path / "shapes" / picture.name)
    (tmp_path / "shapes" / "set").rmdir()
    served = serve(loader=FolderLoader(), repository=tmp_path)
    paths = (await document(served))["paths"]

    async def send(method: str, path: str, name: str, **places: str) -> None:
        operation = paths[path][method]
        body = operation["requestBody"]["content"]["application/json"]["examples"][name]["value"]
        url = path.format(name="shapes", **places)
        response = await served.client.request(method.upper(), url, json=body)
        assert str(response.status_code) in operation["responses"]
        assert response.status_code < 300, response.text

    model = served.runtime.repository.get()
    await send("post", "/reload", "version")
    assert model.current.label == "2"
    await send("post", "/models/{name}/versions/{version}/load", "load", version="1")
    await send("put", "/models/{name}/aliases/{alias}", "candidate", alias="candidate")
    await send("put", "/models/{name}/shadow", "tenth")
    await send("post", "/models/{name}/rollback", "rollback")
    assert model.current.label == "3"
    for label in ("2", "3"):
        assert (await served.client.post("/reload", json={"version": label})).status_code == 200
    await send("post", "/models/{name}/rollback", "only")
    assert model.current.label == "2"
    await send("post", "/reload", "again")
    assert model.current.label == "2"


async def test_the_examples_of_a_reload_are_taken(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "v2").mkdir()
    (tmp_path / "v2" / "model_final.pth").write_text("made up")
    served = serve()
    body = (await document(served))["paths"]["/reload"]["post"]["requestBody"]["content"]
    examples = body["application/json"]["examples"]
    for name in ("again", "files"):
        response = await served.client.post("/reload", json=examples[name]["value"])
        assert response.status_code == 200, response.text


async def test_every_option_is_a_documented_parameter(serve: Serve) -> None:
    parameters = (await document(serve()))["paths"]["/predict"]["post"]["parameters"]
    in_query = [parameter["name"] for parameter in parameters if parameter["in"] == "query"]
    assert in_query == list(PredictOptions.model_fields)
    assert all(parameter["description"] for parameter in parameters)


async def test_the_outputs_of_every_architecture_are_documented(serve: Serve) -> None:
    schemas = (await document(serve()))["components"]["schemas"]
    outputs = {"instances", "proposals", "sem_seg", "panoptic_seg"}
    assert outputs <= set(schemas["Prediction"]["properties"])
    assert {"box_mode", "polygons", "pred_keypoints", "masks"} <= set(
        schemas["InstancesAnswer"]["properties"]
    )
    assert {"keypoint_names", "keypoint_skeleton"} <= set(schemas["ModelRef"]["properties"])
    assert {"outputs", "box_mode", "stuff_classes", "takes_proposals", "tta"} <= set(
        schemas["ModelAnswer"]["properties"]
    )


async def test_the_refusals_of_tta_and_proposals_are_documented(serve: Serve) -> None:
    responses = (await document(serve()))["paths"]["/predict"]["post"]["responses"]
    examples = responses["422"]["content"]["application/json"]["examples"]
    assert {"tta_not_supported", "proposals_required", "proposals_not_taken"} <= set(examples)

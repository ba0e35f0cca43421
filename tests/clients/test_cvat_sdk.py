"""The auto-annotation module of examples/, with CVAT's own types and its own check of their results."""

import base64
import importlib.util
import json
import logging
import urllib.request
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml
from cvat_sdk import masks, models
from cvat_sdk.auto_annotation import DetectionFunctionSpec, driver
from PIL import Image

EXAMPLES = Path(__file__).parent.parent.parent / "examples" / "cvat"
NAMES = ["disc", "rectangle", "triangle", "star"]


def load(path: Path) -> ModuleType:
    """An example, as cvat-cli and Nuclio load it: from its file."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def context(**options: Any) -> Any:
    return driver._DetectionFunctionContextImpl(frame_name="1.jpg", **options)


def taken(function: Any, shapes: list[Any], kind: str, **options: Any) -> list[Any]:
    """The shapes as CVAT's driver would upload them to a task with the same labels."""
    labels = [
        models.Label(id=100 + i, name=name, type=kind, attributes=[], sublabels=[])
        for i, name in enumerate(NAMES)
    ]
    mapper = driver._AnnotationMapper(
        logging.getLogger(), function.spec.labels, labels, allow_unmatched_labels=False, **options
    )
    tags, found = mapper.validate_and_remap(shapes, 7)
    assert tags == []
    return found


@pytest.mark.parametrize("shape", ["rectangle", "polygon", "mask"])
def test_shapes_are_taken_by_the_driver(server_url: str, sample: Path, shape: str) -> None:
    function = load(EXAMPLES / "detserve_function.py").create(url=server_url, shape=shape)
    assert isinstance(function.spec, DetectionFunctionSpec)
    assert [label.name for label in function.spec.labels] == NAMES
    shapes = function.detect(context(conf_threshold=0.5), Image.open(sample))
    found = taken(function, shapes, shape, conv_mask_to_poly=False)
    assert found
    assert {entry.type.value for entry in found} == {shape}
    assert all(100 <= entry.label_id < 104 and entry.frame == 7 for entry in found)


def test_masks_decode_to_the_pixels_of_the_function_contract(server_url: str, sample: Path) -> None:
    function = load(EXAMPLES / "detserve_function.py").create(url=server_url, shape="mask")
    image = Image.open(sample)
    image.load()
    lossless = sample.read_bytes()
    shapes = function.detect(context(), image)
    request = urllib.request.Request(
        f"{server_url}/cvat/?shape=mask",
        json.dumps({"image": base64.b64encode(lossless).decode()}).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=90) as response:
        contract = json.load(response)
    assert len(shapes) == len(contract) > 0
    for ours, theirs in zip(shapes, contract, strict=True):
        decoded = masks.decode_mask(ours.points, image_width=image.width, image_height=image.height)
        *bits, left, top, right, bottom = theirs["mask"]
        full = np.zeros((image.height, image.width), dtype=bool)
        crop = np.reshape(bits, (bottom - top + 1, right - left + 1))
        full[top : bottom + 1, left : right + 1] = crop
        assert (decoded == full).all()
        # CVAT's own encoder writes the same.
        assert masks.encode_mask(full) == list(ours.points)


def test_masks_become_polygons_where_cvat_wants_that(server_url: str, sample: Path) -> None:
    function = load(EXAMPLES / "detserve_function.py").create(url=server_url, shape="mask")
    shapes = function.detect(context(conv_mask_to_poly=True), Image.open(sample))
    assert taken(function, shapes, "polygon", conv_mask_to_poly=True)


def test_a_threshold_leaves_out_what_is_below(server_url: str, sample: Path) -> None:
    function = load(EXAMPLES / "detserve_function.py").create(url=server_url)
    image = Image.open(sample)
    every = function.detect(context(conf_threshold=0.0), image)
    sure = function.detect(context(conf_threshold=0.9), image)
    assert 0 < len(sure) <= len(every)


def test_a_model_that_is_not_there_is_named(server_url: str) -> None:
    with pytest.raises(ValueError, match=r"no model 'cars'; it has shapes"):
        load(EXAMPLES / "detserve_function.py").create(url=server_url, model="cars")


def test_the_function_of_nuclio_hands_on_picture_and_answer(
    server_url: str, sample: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = f"{server_url}/cvat/function.yaml?shape=polygon&url={server_url}"
    with urllib.request.urlopen(address, timeout=10) as response:
        function = yaml.safe_load(response.read())
    for variable in function["spec"]["env"]:
        monkeypatch.setenv(variable["name"], variable["value"])
    labels = json.loads(function["metadata"]["annotations"]["spec"])
    assert [label["name"] for label in labels] == NAMES
    file, _, handler = function["spec"]["handler"].partition(":")
    module = load(EXAMPLES / "nuclio" / f"{file}.py")
    worker = SimpleNamespace(user_data=SimpleNamespace(), Response=SimpleNamespace)
    module.init_context(worker)

    def ask(body: dict[str, Any]) -> Any:
        return getattr(module, handler)(worker, SimpleNamespace(body=body))

    answer = ask({"image": base64.b64encode(sample.read_bytes()).decode(), "threshold": 0.5})
    assert answer.status_code == 200
    found = json.loads(answer.body)
    assert {entry["type"] for entry in found} == {"polygon"}
    assert all(entry["label"] in NAMES and float(entry["confidence"]) >= 0.5 for entry in found)
    refused = ask({"image": "x"})
    assert refused.status_code == 400
    assert json.loads(refused.body)["error"]["code"] == "invalid_base64"

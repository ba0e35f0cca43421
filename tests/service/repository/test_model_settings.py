"""model.yaml: what it may hold, and everything it refuses."""

import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from models.errors import ModelError
from service.repository.model_settings import (
    MAX_BYTES,
    Batching,
    ClassEntry,
    Gate,
    ModelSettings,
)

FULL = """
score_threshold: 0.5
max_detections: 50
classes:
  - {name: disc, color: "#Ff8800"}
  - rectangle
  - " star, red "
mode: fast
resize: auto
batching: {max_batch_size: 4, max_batch_pixels: 8000000, max_wait_ms: 5}
zoo: faster_rcnn_R_50_FPN_3x
description: |
  Finds shapes.
  Trained in May.
gate: {dataset: val.json, images: val, min_ap: 50, max_drop: 1.0, iou_type: segm, max_images: 200}
"""


def read(folder: Path, text: str | bytes) -> ModelSettings:
    path = folder / "model.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return ModelSettings.read(path)


def refusal(folder: Path, text: str | bytes) -> ModelError:
    with pytest.raises(ModelError) as caught:
        read(folder, text)
    assert caught.value.message.startswith("model.yaml")
    assert caught.value.message[-1] in ".?"
    assert len(caught.value.message) < 400
    assert str(folder) not in caught.value.message
    return caught.value


def test_every_key_is_read(tmp_path: Path) -> None:
    settings = read(tmp_path, FULL)
    assert settings == ModelSettings(
        score_threshold=0.5,
        max_detections=50,
        classes=(
            ClassEntry(name="disc", color="#ff8800"),
            ClassEntry(name="rectangle"),
            ClassEntry(name="star, red"),
        ),
        mode="fast",
        resize="auto",
        batching=Batching(max_batch_size=4, max_batch_pixels=8_000_000, max_wait_ms=5),
        zoo="COCO-Detection/faster_rcnn_R_50_FPN_3x",
        description="Finds shapes.\nTrained in May.",
        gate=Gate(
            dataset="val.json",
            images="val",
            min_ap=50,
            max_drop=1.0,
            iou_type="segm",
            max_images=200,
        ),
    )
    assert settings.class_names == ("disc", "rectangle", "star, red")
    assert settings.class_colors == ((255, 136, 0), None, None)
    assert settings.zoo_model is not None
    assert settings.zoo_model.name == "COCO-Detection/faster_rcnn_R_50_FPN_3x"


@pytest.mark.parametrize("text", ["", "# nothing yet\n", "{}", "score_threshold:\nclasses: ~\n"])
def test_everything_is_optional(tmp_path: Path, text: str) -> None:
    settings = read(tmp_path, text)
    assert settings == ModelSettings()
    assert (settings.class_names, settings.class_colors, settings.zoo_model) == (None, (), None)
    assert settings.batching == Batching()


def test_a_gate_without_a_bound_only_tells_its_figures(tmp_path: Path) -> None:
    gate = read(tmp_path, "gate: {dataset: val.json}").gate
    assert gate == Gate(dataset="val.json")
    assert (gate.min_ap, gate.max_drop) == (None, None)


def test_a_gate_reads_as_json_too() -> None:
    gate = Gate.model_validate_json('{"dataset": "val.json", "min_ap": 50, "max_drop": 0}')
    assert (gate.min_ap, gate.max_drop) == (50, 0)
    with pytest.raises(ValidationError):
        Gate.model_validate_json('{"dataset": "val.json", "min_ap": "50"}')


@pytest.mark.parametrize("value", ["a\u0000b", " ", "a\nb", "x" * 1025])
def test_a_path_of_a_gate_is_one_line_of_text(value: str) -> None:
    with pytest.raises(ValidationError):
        Gate(dataset=value)


@pytest.mark.parametrize(
    ("text", "key", "known"),
    [
        ("treshold: 0.5", "treshold", "score_threshold, max_detections, classes, mode"),
        ("batching: {size: 4}", "batching.size", "max_batch_size, max_batch_pixels, max_wait_ms"),
        ("gate: {dataset: a, ap: 4}", "gate.ap", "dataset, images, min_ap, max_drop"),
        ("classes: [{name: a, colour: red}]", "classes[0].colour", "name, color"),
        ("expected_sha256: 00", "expected_sha256", "gate"),
    ],
)
def test_an_unknown_key_is_refused_with_those_that_there_are(
    tmp_path: Path, text: str, key: str, known: str
) -> None:
    error = refusal(tmp_path, text)
    assert f"unknown key {key};" in error.message
    assert known in error.message
    assert error.details["key"] == key


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("score_threshold: 1.1", "score_threshold cannot be 1.1: Input should be less"),
        ("score_threshold: -0.1", "score_threshold cannot be -0.1"),
        ("score_threshold: .nan", "finite"),
        ("score_threshold: yes", "score_threshold cannot be True"),
        ("score_threshold: '0.5'", "score_threshold cannot be '0.5'"),
        ("score_threshold: [0.5]", "score_threshold: Input should be a valid number"),
        ("max_detections: 0", "max_detections cannot be 0"),
        ("max_detections: 2.0", "valid integer"),
        ("max_detections: 0x" + "f" * 6000, "it is too long"),
        ("mode: quick", "'reference', 'exact' or 'fast'"),
        ("resize: bicubic", "'auto', 'pil' or 'fast'"),
        ("batching: 4", "batching takes keys: max_batch_size"),
        ("batching:", "batching takes keys: max_batch_size"),
        ("batching: {max_batch_size: 0}", "batching.max_batch_size cannot be 0"),
        ("batching: {max_wait_ms: 10001}", "batching.max_wait_ms cannot be 10001"),
        ("batching: {max_wait_ms: .inf}", "batching.max_wait_ms"),
        ("zoo: faster_rcnn_R_50_FPN_4x", "Did you mean"),
        ("zoo: 3", "zoo cannot be 3"),
        ("description: " + "x" * 1001, "at most 1000 characters"),
        ('description: "a\\x07"', "printable"),
        ("gate: {min_ap: 50}", "needs gate.dataset too"),
        ("gate: {dataset: v.json, min_ap: 101}", "gate.min_ap cannot be 101"),
        ("gate: {dataset: v.json, iou_type: boxes}", "'bbox', 'segm' or 'keypoints'"),
        ("gate: {dataset: 3}", "gate.dataset cannot be 3"),
        ("- score_threshold", "holds no keys"),
        ("text", "holds no keys"),
        ("score_threshold: 0.5\nscore_threshold: 0.6", "score_threshold twice"),
        ("score_threshold: [", "not valid YAML"),
        (b"\x80\x02}q\x00.", "not a text file"),
        ("#" * (MAX_BYTES + 1), "over 64 KiB"),
    ],
)
def test_a_bad_value_is_refused_with_its_key_and_the_reason(
    tmp_path: Path, text: str | bytes, part: str
) -> None:
    assert part in refusal(tmp_path, text).message


@pytest.mark.parametrize(
    ("classes", "part"),
    [
        ("abc", "a list with a name for each class"),
        ("{a: 1}", "a list with a name for each class"),
        ("[]", "a list with a name for each class"),
        ("[cat, dog, cat]", "the name 'cat' twice"),
        ("[cat, no]", "classes[1].name cannot be False: put quotes around it"),
        ("[1, 2]", "classes[0].name cannot be 1: put quotes around it"),
        ("[cat, ~]", "classes[1].name cannot be empty"),
        ("[cat, ' ']", "it is empty"),
        ('["a\\nb"]', "one line"),
        ('["a\\u2028b"]', "one line"),
        ('["\\uD800"]', "surrogate"),
        ("[{color: '#ffffff'}]", "needs classes[0].name too"),
        ("[{name: a, color: red}]", "classes[0].color cannot be 'red': a colour is"),
        ("[{name: a, color: '#fff'}]", "a colour is"),
        ("[{name: a, color: '#12345_'}]", "a colour is"),
        ("[{name: a, color: '#1234567'}]", "a colour is"),
        ("[{name: a, color: '#\u0660\u0660\u0660\u0660\u0660\u0660'}]", "a colour is"),
        ("[{name: a, color: 112233}]", "a colour is"),
        ("[{name: a, color: [1, 2, 3]}]", "a colour is"),
        ("\n- name: a\n  color: #ff8800", "color cannot be empty: a colour is"),
    ],
)
def test_a_bad_class_is_refused_with_its_place_and_the_reason(
    tmp_path: Path, classes: str, part: str
) -> None:
    assert part in refusal(tmp_path, f"classes: {classes}").message


@pytest.mark.parametrize(
    "text",
    [
        "classes: !!python/object/apply:os.system ['touch SENTINEL']",
        "!!python/object/apply:os.system ['touch SENTINEL']",
        "classes: [!!python/name:os.system '']",
        "description: !!python/object/new:subprocess.Popen [[touch, SENTINEL]]",
        "mode: !!python/module:os fast",
        "zoo: !mine x",
    ],
)
def test_a_tag_is_refused_and_nothing_runs(tmp_path: Path, text: str) -> None:
    sentinel = tmp_path / "sentinel"
    message = refusal(tmp_path, text.replace("SENTINEL", str(sentinel))).message
    assert "uses the tag" in message
    assert "nothing was executed" in message
    assert not sentinel.exists()


def test_an_alias_bomb_is_refused_without_being_expanded(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 30)]
    assert "more than 100000 values" in refusal(tmp_path, "\n".join(lines)).message


def test_an_alias_to_itself_and_deep_nesting_are_refused(tmp_path: Path) -> None:
    assert "alias to itself" in refusal(tmp_path, "classes: &a [*a]").message
    assert "too deeply" in refusal(tmp_path, "classes: " + "[" * 20_000 + "]" * 20_000).message


def test_what_is_no_regular_file_is_refused_and_nothing_blocks(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "model.yaml")
    with pytest.raises(ModelError, match="no regular file"):
        ModelSettings.read(tmp_path / "model.yaml")
    (tmp_path / "folder").mkdir()
    with pytest.raises(ModelError, match="folder cannot be read: it is no regular file"):
        ModelSettings.read(tmp_path / "folder")
    with pytest.raises(ModelError, match="there is no such file"):
        ModelSettings.read(tmp_path / "nowhere.yaml")

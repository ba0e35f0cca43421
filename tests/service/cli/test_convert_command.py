"""``detserve convert``: other formats become COCO JSON that reads back."""

import json
from pathlib import Path

import pytest
from training_files import paint
from typer.testing import CliRunner

from service.cli.convert import convert


def run(*arguments: str | Path) -> tuple[int, str]:
    result = CliRunner().invoke(convert, [*map(str, arguments)])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result.exit_code, " ".join(result.output.split())


@pytest.fixture
def yolo(tmp_path: Path) -> Path:
    """A YOLO data set of one picture."""
    paint(tmp_path / "images" / "a.jpg", 1)
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    (tmp_path / "data.yaml").write_text("val: images\nnames: [cat]\n")
    return tmp_path


def test_yolo(yolo: Path) -> None:
    code, output = run("yolo", yolo, "--split", "val", "--out", yolo / "data.json")
    assert code == 0
    assert "1 pictures, 1 objects of 1 classes (cat)" in output
    assert f"check-data --train {yolo / 'data.json'} --images {yolo / 'images'}" in output
    assert json.loads((yolo / "data.json").read_text())["images"][0]["file_name"] == "a.jpg"


def test_voc(tmp_path: Path) -> None:
    paint(tmp_path / "JPEGImages" / "a.jpg", 1)
    (tmp_path / "Annotations").mkdir()
    (tmp_path / "Annotations" / "a.xml").write_text(
        "<annotation><object><name>cat</name><difficult>1</difficult><bndbox><xmin>2</xmin>"
        "<ymin>3</ymin><xmax>20</xmax><ymax>30</ymax></bndbox></object></annotation>"
    )
    out = tmp_path / "new" / "data.json"
    assert run("voc", tmp_path, "--out", out, "--difficult", "keep", "--zero-based")[0] == 0
    found = json.loads(out.read_text())["annotations"][0]
    assert (found["bbox"], found["iscrowd"], found["difficult"]) == ([2, 3, 18, 27], 0, 1)


def test_broken_data_ends_with_a_sentence(yolo: Path) -> None:
    (yolo / "labels" / "a.txt").write_text("7 0.5 0.5 0.5 0.5\n")
    code, output = run("yolo", yolo, "--split", "val", "--out", yolo / "data.json")
    assert code == 1
    assert "error: a.txt, line 1: class 7 is none of the 1" in output
    assert not (yolo / "data.json").exists()

"""Images of a benchmark: read from files, or made up."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from service.bench.errors import BenchError
from service.bench.images import load_images, synthetic_images


def write(path: Path, kind: str, size: tuple[int, int] = (5, 3)) -> Path:
    Image.new("RGB", size, (9, 9, 9)).save(path, kind)
    return path


def test_files_are_sent_as_they_are(tmp_path: Path) -> None:
    path = write(tmp_path / "wrongly_named.jpg", "PNG")
    [image] = load_images([path])
    assert image.data == path.read_bytes()
    assert (image.name, image.media_type) == ("wrongly_named.jpg", "image/png")
    assert (image.width, image.height) == (5, 3)


def test_a_folder_is_its_images_by_name(tmp_path: Path) -> None:
    write(tmp_path / "b.jpg", "JPEG")
    write(tmp_path / "a.webp", "WEBP")
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "sub").mkdir()
    write(tmp_path / "sub" / "c.png", "PNG")
    assert [image.name for image in load_images([tmp_path])] == ["a.webp", "b.jpg"]


@pytest.mark.parametrize("name", ["missing.jpg", "notes.txt", "empty"])
def test_what_is_no_image_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "empty").mkdir()
    with pytest.raises(BenchError, match=name):
        load_images([tmp_path / name])


def test_made_up_images_have_the_sizes_in_turns_and_differ() -> None:
    images = synthetic_images([(64, 48), (31, 90)], per_size=2)
    assert [(i.width, i.height) for i in images] == [(64, 48), (31, 90)] * 2
    assert len({i.data for i in images}) == 4
    for image in images:
        with Image.open(io.BytesIO(image.data)) as opened:
            assert (opened.format, opened.size) == ("JPEG", (image.width, image.height))


def test_made_up_images_are_the_same_every_time_and_others_with_another_seed() -> None:
    first, again, other = (synthetic_images([(40, 30)], seed=seed)[0].data for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_made_up_images_are_as_heavy_as_photographs() -> None:
    [image] = synthetic_images([(640, 480)], per_size=1)
    assert 1.5 < len(image.data) * 8 / (640 * 480) < 2.5
    with Image.open(io.BytesIO(image.data)) as opened:
        assert np.asarray(opened).std() > 20


def test_the_smallest_image_can_be_made() -> None:
    [image] = synthetic_images([(1, 1)], per_size=1)
    assert image.data.startswith(b"\xff\xd8")

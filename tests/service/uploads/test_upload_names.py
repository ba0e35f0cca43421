"""clean_name: what a client may call its files."""

import pytest

from service.uploads.upload import clean_name


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("cat.jpg", "cat.jpg"),
        ("../../etc/passwd", "passwd"),
        ("C:\\photos\\cat.jpg", "cat.jpg"),
        ("a\r\nX-Evil: 1\x00\x1b[31m.jpg", "a X-Evil: 1 [31m.jpg"),
        ("mix\u202egpj.exe", "mix gpj.exe"),
        ("  Füße  am\tStrand.png ", "Füße am Strand.png"),
        ("\ud800.png", ".png"),
    ],
)
def test_name_is_a_base_name_without_control_characters(given: str, expected: str) -> None:
    assert clean_name(given, 0) == expected


@pytest.mark.parametrize("given", [None, "", "..", "/", "\x00\x01", "a/.."])
def test_name_without_substance_is_numbered(given: str | None) -> None:
    assert clean_name(given, 0) == "image"
    assert clean_name(given, 1) == "image-2"


def test_long_name_is_cut_and_keeps_its_extension() -> None:
    name = clean_name("x" * 100_000 + ".jpeg", 0)
    assert len(name) == 100
    assert name.endswith("x.jpeg")

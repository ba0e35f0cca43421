"""What models, versions and aliases may be called, and the order of versions."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import Unprocessable
from service.repository.disk.names import Kind, check_name, is_name, natural_key


@pytest.mark.parametrize("name", ["1", "v2", "2026-01-02", "a.b_c-d", "A" * 64])
def test_a_good_name_comes_back(name: str) -> None:
    assert check_name("model", name) == check_name("version", name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        ".hidden",
        "-flag",
        "a/b",
        "../etc",
        "a\\b",
        "a b",
        "a\n",
        "a\x00",
        "%2e%2e",
        "é",
        "\uff11",
        "A" * 65,
    ],
)
@pytest.mark.parametrize("kind", ["model", "version", "alias"])
def test_what_is_no_name_is_refused(kind: Kind, name: str) -> None:
    assert not is_name(name)
    with pytest.raises(Unprocessable) as caught:
        check_name(kind, name)
    assert caught.value.code == "invalid_name"
    assert "\n" not in caught.value.message


def test_a_huge_name_is_not_told_back() -> None:
    with pytest.raises(Unprocessable) as caught:
        check_name("model", "x" * 100_000)
    assert len(caught.value.message) < 400


@pytest.mark.parametrize("word", ["latest", "current", "previous"])
def test_reserved_words_name_no_version_and_no_alias(word: str) -> None:
    for kind in ("version", "alias"):
        with pytest.raises(Unprocessable, match="reserved"):
            check_name(kind, word)  # type: ignore[arg-type]  # one of the kinds
    assert check_name("model", word) == word


def test_versions_are_ordered_as_people_count() -> None:
    ordered = ["1", "2", "10", "2026-01-02", "2026-01-10", "v1", "v1.2", "v1.10", "v2", "v10"]
    shuffled = ordered[::-1]
    assert sorted(shuffled, key=natural_key) == ordered


@given(st.lists(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,12}", fullmatch=True), unique=True))
def test_any_two_names_have_an_order(names: list[str]) -> None:
    turned = names[::-1]
    keys = [natural_key(name) for name in names]
    assert len(set(keys)) == len(names)
    assert sorted(names, key=natural_key) == sorted(turned, key=natural_key)

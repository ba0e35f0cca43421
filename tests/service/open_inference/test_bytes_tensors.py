"""BYTES tensors as raw bytes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import BadRequest
from service.open_inference.bytes_tensors import join_elements, split_elements


@given(st.lists(st.binary(max_size=20), max_size=10))
def test_what_is_joined_splits_into_the_same(elements: list[bytes]) -> None:
    raw = join_elements(elements)
    assert split_elements(raw, len(elements)) == elements
    assert split_elements(memoryview(raw), len(elements)) == elements


def test_the_length_stands_before_each_element_little_endian() -> None:
    assert join_elements([b"ab", b""]) == b"\x02\0\0\0ab\0\0\0\0"


@pytest.mark.parametrize(
    ("raw", "count"),
    [
        (b"\x02\0\0\0a", 1),  # the element is cut off
        (b"\x02\0", 1),  # its length is
        (b"\xff\xff\xff\xffab", 1),  # it claims four gigabytes
        (b"\x01\0\0\0a", 2),
        (b"\x01\0\0\0a", 0),
        (b"\x01\0\0\0a\x01\0\0\0b", 1),
        (b"", 1),
        (b"", 2**40),  # what a shape says costs nothing
    ],
)
def test_bytes_that_are_not_so_many_elements_are_refused(raw: bytes, count: int) -> None:
    with pytest.raises(BadRequest) as refused:
        split_elements(raw, count)
    assert refused.value.code == "malformed_tensor"


@given(st.binary(max_size=40), st.integers(0, 5))
def test_any_bytes_are_elements_or_refused(raw: bytes, count: int) -> None:
    try:
        elements = split_elements(raw, count)
    except BadRequest:
        return
    assert join_elements(elements) == raw

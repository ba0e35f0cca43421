"""ShapeSpec: what is known of a feature, and errors where it is not."""

import pytest

from models.layers import ShapeSpec


def test_known_values_are_returned() -> None:
    shape = ShapeSpec(channels=3, stride=4)
    assert (shape.known_channels, shape.known_stride) == (3, 4)
    assert shape.height is None


@pytest.mark.parametrize(
    ("attribute", "message"), [("known_channels", "how many channels"), ("known_stride", "stride")]
)
def test_unknown_values_raise(attribute: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        getattr(ShapeSpec(), attribute)


def test_shapes_compare_by_value() -> None:
    assert ShapeSpec(channels=3, stride=4) == ShapeSpec(channels=3, stride=4)

"""The server's bounds on test-time augmentation, told before any image is decoded."""

from typing import Any

import pytest
from fake_detector import FakeDetector, picture
from fake_server import Serve

from service.inference.detector import Views

pytestmark = pytest.mark.anyio
FILES: list[tuple[str, Any]] = [("images", ("1.png", picture(1, (32, 32))))]


@pytest.mark.parametrize(
    ("tta", "code"),
    [("64,96,128", "too_many_views"), ("2000", "view_too_large"), ("full", "too_many_views")],
)
async def test_views_over_the_bounds_are_refused(serve: Serve, tta: str, code: str) -> None:
    detector = FakeDetector(tta=Views((64, 96, 128), 256, flip=True))
    served = serve(detector, max_tta_views=4)
    response = await served.client.post("/predict", params={"tta": tta}, files=FILES)
    assert response.status_code == 422
    assert response.json()["error"]["code"] == code
    assert served.detector.batches == []


@pytest.mark.parametrize("tta", ["none", "flip", "full"])
async def test_tta_flip_without_sizes_is_refused(serve: Serve, tta: str) -> None:
    served = serve(FakeDetector(tta=Views((64,), 256, flip=True)))
    params = {"tta": tta, "tta_flip": "false"}
    response = await served.client.post("/predict", params=params, files=FILES)
    assert response.status_code == 422
    assert response.json()["error"]["details"] == {"option": "tta_flip"}

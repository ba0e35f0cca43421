"""A real model's answer to an image does not depend on the images, options and order around it."""

import asyncio
import io
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import httpx
import pytest
from fake_detector import PATIENCE_S
from golden import GOLDEN
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from small_models import write_small_model

from service.app import create_app
from service.runtime import Runtime
from service.settings import Settings

# (height, width): with a shorter side of 96 the first five are padded to 96 x 128, the next two to
# 96 x 160, the last to 128 x 96.
SIZES = [(96, 128), (100, 130), (75, 95), (120, 125), (48, 60), (90, 145), (60, 95), (120, 95)]
OPTIONS: list[dict[str, str]] = [
    {},
    {"score_threshold": "0.3"},
    {"classes": "0,2"},
    {"max_detections": "3"},
    {"masks": "none"},
    {"score_threshold": "0.25", "classes": "1", "masks": "none"},
]


@dataclass(frozen=True)
class Asked:
    """A request of one image: which part of the scene, and the options, by their places in the lists."""

    size: int
    part: int
    options: int


ASKED = st.builds(
    Asked,
    size=st.integers(0, len(SIZES) - 1),
    part=st.integers(0, 2),
    options=st.integers(0, len(OPTIONS) - 1),
)


@cache
def picture(size: int, part: int) -> bytes:
    """A crop of a photograph-like scene, as PNG."""
    height, width = SIZES[size]
    scene = Image.open(GOLDEN / "scene_a.png").convert("RGB").resize((240, 180))
    left, top = 30 * part, 20 * part
    buffer = io.BytesIO()
    scene.crop((left, top, left + width, top + height)).save(buffer, "PNG")
    return buffer.getvalue()


class Server:
    """A server with a small Mask R-CNN; remembers what it answers to each request alone."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.runner = asyncio.Runner()
        transport = httpx.ASGITransport(create_app(runtime))
        self.client = httpx.AsyncClient(transport=transport, base_url="http://localhost")
        self._alone: dict[Asked, dict[str, Any]] = {}

    def alone(self, asked: Asked) -> dict[str, Any]:
        if asked not in self._alone:
            [self._alone[asked]] = self.runner.run(self._together([asked]))
        return self._alone[asked]

    def together(self, asked: list[Asked]) -> list[dict[str, Any]]:
        """The answers to requests that wait for the model all at once, in this order."""
        return self.runner.run(self._together(asked))

    async def _together(self, asked: list[Asked]) -> list[dict[str, Any]]:
        go = threading.Event()
        self.runtime.scheduler.call(lambda: go.wait(PATIENCE_S))
        tasks = []
        async with asyncio.timeout(PATIENCE_S):
            for number, one in enumerate(asked, 1):
                tasks.append(asyncio.ensure_future(self._ask(one)))
                while self.runtime.scheduler.waiting < number:
                    await asyncio.sleep(0)
            go.set()
            return await asyncio.gather(*tasks)

    async def _ask(self, asked: Asked) -> dict[str, Any]:
        files = {"images": ("a.png", picture(asked.size, asked.part))}
        response = await self.client.post("/predict", files=files, data=OPTIONS[asked.options])
        assert response.status_code == 200, response.text
        prediction: dict[str, Any] = response.json()["predictions"][0]
        return prediction


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    config, weights = write_small_model("mask_rcnn", tmp_path_factory.mktemp("mask_rcnn"))
    runtime = Runtime(
        Settings(_env_file=None, config=config, weights=weights, device="cpu", threads=2)
    )
    runtime.load()
    made = Server(runtime)
    try:
        yield made
    finally:
        made.runner.close()
        runtime.close()


def check_equal(found: dict[str, Any], alone: dict[str, Any]) -> None:
    found, alone = found["instances"], alone["instances"]
    assert found.keys() == alone.keys()
    assert found["pred_classes"] == alone["pred_classes"]
    assert found["scores"] == pytest.approx(alone["scores"], abs=1e-5)
    for box, other in zip(found["pred_boxes"], alone["pred_boxes"], strict=True):
        assert box == pytest.approx(other, abs=0.01)


# derandomize: the same examples on every machine; no deadline: no test times the machine.
@settings(max_examples=30, derandomize=True, deadline=None)
@given(st.lists(ASKED, min_size=2, max_size=8))
def test_an_answer_is_the_same_alone_and_in_any_company(server: Server, asked: list[Asked]) -> None:
    for one, found in zip(asked, server.together(asked), strict=True):
        check_equal(found, server.alone(one))


def test_different_sizes_and_options_share_a_batch(server: Server) -> None:
    asked = [Asked(size=i, part=0, options=i) for i in range(5)]
    found = server.together(asked)
    assert [one["batch_size"] for one in found] == [5] * 5
    assert all(one["instances"]["scores"] for one in (found[0], found[3]))


def test_the_examples_find_instances(server: Server) -> None:
    counts = [len(server.alone(Asked(i, 0, 0))["instances"]["scores"]) for i in range(len(SIZES))]
    assert min(counts) > 3

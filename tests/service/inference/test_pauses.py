"""A long inference lets others run between its parts, and ends when nobody waits for it."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from fake_detector import FakeDetector, mark_of, picture
from fake_server import Serve

from service.inference.detector import Prediction, PreparedImage, Views

pytestmark = pytest.mark.anyio
VIEWS = Views((64,), 256, flip=True)


class SlowViews(FakeDetector):
    """Images with views take parts until a test lets them end; records who ran in between."""

    def __init__(self, parts: int, **described: Any) -> None:
        super().__init__(tta=VIEWS, **described)
        self.parts = parts
        self.order: list[str] = []
        self.ended_early = False

    def prepare(self, pixels: Any, *, tta: Views | None = None, **_: Any) -> PreparedImage:
        image = super().prepare(pixels)
        views = ({"image": image.tensor},) if tta is not None else ()
        return PreparedImage(
            image.tensor, image.height, image.width, image.padded_size, image.recipe, views
        )

    def infer(
        self, batch: Sequence[PreparedImage], pause: Callable[[], None] | None = None
    ) -> list[Prediction]:
        if not batch[0].views:
            self.order.append(f"plain {mark_of(batch[0])}")
            return super().infer(batch)
        assert pause is not None
        try:
            for part in range(self.parts):
                pause()
                self.order.append(f"part {part}")
                assert self.go.wait(20)
        except BaseException:  # whatever ends it, which goes on
            self.ended_early = True
            raise
        return super().infer(batch)


def send(served: Any, mark: int, **params: str) -> Any:
    files = [("images", (f"{mark}.png", picture(mark, (32, 32))))]
    return asyncio.ensure_future(served.client.post("/predict", params=params, files=files))


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0)


async def test_plain_images_run_between_the_views_of_another(serve: Serve) -> None:
    detector = SlowViews(parts=3)
    served = serve(detector)
    detector.order.clear()
    detector.go.clear()
    long = send(served, 1, tta="full")
    await until(lambda: detector.order == ["part 0"])
    short = send(served, 2)
    await until(lambda: served.runtime.scheduler.waiting == 1)
    detector.go.set()
    assert (await short).status_code == (await long).status_code == 200
    assert detector.order == ["part 0", "plain 2", "part 1", "part 2"]


async def test_views_that_nobody_waits_for_end_at_the_next_part(serve: Serve) -> None:
    detector = SlowViews(parts=1_000_000)
    served = serve(detector, request_timeout_s=0.2)
    response = await send(served, 1, tta="full")
    assert response.status_code == 504
    await until(lambda: detector.ended_early)
    assert (await send(served, 2)).status_code == 200


async def test_a_stop_ends_views_at_the_next_part(serve: Serve) -> None:
    detector = SlowViews(parts=1_000_000)
    served = serve(detector)
    long = send(served, 1, tta="full")
    await until(lambda: len(detector.order) > 2)
    await asyncio.get_running_loop().run_in_executor(None, served.runtime.scheduler.close)
    assert not served.runtime.scheduler.alive
    assert (await long).status_code == 503


async def test_the_pixels_of_all_views_of_an_image_are_bounded(serve: Serve) -> None:
    served = serve(SlowViews(parts=1), max_tta_pixels=2 * 64 * 64 - 1)
    response = await send(served, 1, tta="full")
    assert response.status_code == 413
    assert response.json()["error"]["details"] == {"limit": 8191, "value": 8192}


def test_views_count_their_pixels() -> None:
    assert VIEWS.pixels(32, 32) == 2 * 64 * 64

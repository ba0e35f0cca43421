"""A large request takes its turns: others do not wait for the whole of it, and its pixels are bounded."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from fake_detector import picture
from fake_server import Serve

import service.inference.preparation as preparation
from service.images import decode_image

pytestmark = pytest.mark.anyio


def files(*marks: int, size: tuple[int, int] = (32, 32)) -> list[tuple[str, Any]]:
    return [("images", (f"{mark}.png", picture(mark, size))) for mark in marks]


async def test_a_small_request_waits_for_few_images_of_a_large_one(
    serve: Serve,
    monkeypatch: pytest.MonkeyPatch,
    come: Callable[[threading.Event], Any],
) -> None:
    served = serve(threads=2)  # one worker
    assert served.runtime.workers.threads == 1
    decoded: list[int] = []
    entered, go = threading.Event(), threading.Event()

    def slow(data: bytes, *args: Any, **kwargs: Any) -> Any:
        entered.set()
        assert go.wait(20)
        image = decode_image(data, *args, **kwargs)
        decoded.append(int(image.pixels[0, 0, 0]))
        return image

    monkeypatch.setattr(preparation, "decode_image", slow)
    large = asyncio.ensure_future(served.client.post("/predict", files=files(*range(1, 11))))
    await come(entered)
    small = asyncio.ensure_future(served.client.post("/predict", files=files(99)))
    while served.runtime.scheduler.depth < 11:  # the small one is in the house
        await asyncio.sleep(0)
    go.set()
    assert (await small).status_code == (await large).status_code == 200
    assert decoded.index(99) <= 2


async def test_the_images_of_a_request_have_a_budget_of_pixels_together(serve: Serve) -> None:
    served = serve(max_request_pixels=32 * 32 * 2)
    answer = (await served.client.post("/predict", files=files(1, 2, 3))).json()
    errors = [prediction.get("error") for prediction in answer["predictions"]]
    assert sorted(error["code"] for error in errors if error) == ["too_many_pixels"]
    [error] = [error for error in errors if error]
    assert error["details"] == {"limit": 2048, "value": 3072}


async def test_one_image_over_the_budget_is_refused(serve: Serve) -> None:
    served = serve(max_request_pixels=1000)
    response = await served.client.post("/predict", files=files(1))
    assert response.status_code == 413
    assert response.json()["error"]["code"] == "too_many_pixels"


async def test_probes_answer_head(serve: Serve) -> None:
    served = serve()
    assert (await served.client.head("/livez")).status_code == 200
    assert (await served.client.head("/readyz")).status_code == 200


async def test_an_option_given_twice_is_refused_with_a_word_on_it(serve: Serve) -> None:
    served = serve()
    response = await served.client.post(
        "/predict?score_threshold=0.5&score_threshold=0.9", files=files(1)
    )
    assert response.status_code == 422
    assert "given 2 times" in response.json()["error"]["message"]


@pytest.mark.parametrize(
    ("classes", "found"), [([1], [1]), (["1"], [3]), ("0,2", [0, 2]), (3, [3]), (["disc"], [0])]
)
async def test_a_json_number_is_an_id_and_a_text_first_a_name(
    serve: Serve, classes: Any, found: list[int]
) -> None:
    # The fake's classes are disc, square, "star, red" and "1".
    import base64

    served = serve()
    body = {"image": base64.b64encode(picture(1, (32, 32))).decode(), "classes": classes}
    answer = (await served.client.post("/predict", json=body)).json()
    given = answer["predictions"][0]["instances"]["pred_classes"]
    assert given == [c for c in found if c < 3]  # it finds no instance of class 3


async def test_many_class_names_fit_one_text(serve: Serve) -> None:
    served = serve()
    names = ",".join(["disc"] * 3000)
    response = await served.client.post("/predict", files=files(1), data={"classes": names})
    assert response.status_code == 200, response.text

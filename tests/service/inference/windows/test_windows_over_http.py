"""Regions and tiles through the whole service: a detector that finds coloured rectangles."""

import asyncio
import base64
import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pycocotools.mask as mask_api
import pytest
import torch
from fake_detector import FakeDetector, FakeLoader, picture
from fake_server import Serve, Served
from numpy.typing import NDArray
from PIL import Image

from models.structures import Boxes, Instances
from service.errors import DeadlineMissed
from service.inference.detector import Prediction, PreparedImage
from service.inference.pipeline import ImageAnswer
from service.repository.version import ModelVersion, RequestLease
from service.schemas.options import PredictOptions
from service.uploads import Upload

pytestmark = pytest.mark.anyio

# Colour by colour: left, top, right, bottom.
OBJECTS = {
    10: (5, 5, 35, 30),
    20: (110, 20, 150, 60),
    30: (85, 85, 125, 125),
    40: (60, 150, 190, 180),  # wider than what tiles share
}
HEIGHT, WIDTH = 200, 240


def rectangles(image: PreparedImage, *, frames: bool = False) -> Prediction:
    """Each colour in the picture, as class 0, with a mask; no strip of a few pixels."""
    red = image.tensor[0]
    boxes, masks = [], []
    for color in red.unique().tolist():
        bits = red == color
        rows, columns = bits.any(dim=1).nonzero().flatten(), bits.any(dim=0).nonzero().flatten()
        if color == 0 or min(len(rows), len(columns)) < 4:
            continue
        boxes.append([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
        masks.append(bits)
    found = Instances(
        (image.height, image.width),
        pred_boxes=Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)),
        scores=torch.full((len(boxes),), 0.9),
        pred_classes=torch.zeros(len(boxes), dtype=torch.int64),
    )
    if frames:
        found.pred_masks = torch.stack(masks) if masks else torch.zeros(0, *red.shape).bool()
    else:
        found.pred_masks = torch.ones(len(boxes), 1, 14, 14)
    return Prediction(instances=found)


def canvas() -> NDArray[np.uint8]:
    pixels = np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8)
    for color, (left, top, right, bottom) in OBJECTS.items():
        pixels[top:bottom, left:right] = color
    return pixels


def file_of(pixels: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def detector() -> FakeDetector:
    fake = FakeDetector()
    fake.predicts = rectangles
    return fake


async def ask(served: Served, data: bytes | None = None, **options: Any) -> dict[str, Any]:
    response = await served.client.post(
        "/predict", files={"images": data or file_of(canvas())}, params=options
    )
    body: dict[str, Any] = response.json()
    return body | {"status": response.status_code}


def boxes_of(body: dict[str, Any]) -> list[tuple[int, ...]]:
    assert body["status"] == 200, body
    [prediction] = body["predictions"]
    return sorted(tuple(round(v) for v in box) for box in prediction["instances"]["pred_boxes"])


@pytest.mark.parametrize("tiles", ["100x100,40", "120x90", "240x200,0", "64x150,30", "AUTO"])
async def test_tiles_give_the_objects_of_the_picture_each_once(
    serve: Serve, detector: FakeDetector, tiles: str
) -> None:
    assert boxes_of(await ask(serve(detector), tiles=tiles)) == sorted(OBJECTS.values())


@pytest.mark.parametrize("frames", [False, True], ids=["soft", "frames"])
async def test_masks_are_in_pixels_of_the_picture(
    serve: Serve, detector: FakeDetector, frames: bool
) -> None:
    detector.predicts = lambda image: rectangles(image, frames=frames)
    body = await ask(serve(detector), tiles="100x100,40")
    [prediction] = body["predictions"]
    assert prediction["image"] == {"name": "upload", "width": WIDTH, "height": HEIGHT}
    red = canvas()[:, :, 0]
    for box, mask in zip(
        prediction["instances"]["pred_boxes"], prediction["instances"]["masks"], strict=True
    ):
        bits = mask_api.decode(mask)
        color = red[round((box[1] + box[3]) / 2), round((box[0] + box[2]) / 2)]
        assert (bits != (red == color)).sum() <= (0 if frames else 4)


async def test_the_answer_tells_its_tiles_and_an_untiled_one_none(
    serve: Serve, detector: FakeDetector
) -> None:
    served = serve(detector)
    assert (await ask(served, tiles="100x100,40"))["predictions"][0]["tiles"] == 4 * 3
    assert "tiles" not in (await ask(served))["predictions"][0]


async def test_the_model_sees_the_region_alone_and_answers_are_of_the_picture(
    serve: Serve, detector: FakeDetector
) -> None:
    sizes = []

    def seen(image: PreparedImage) -> Prediction:
        sizes.append((image.width, image.height))
        return rectangles(image)

    served = serve(detector)
    detector.predicts = seen
    body = await ask(served, region="100,10,160,100.5")
    assert sizes == [(60, 91)]
    assert boxes_of(body) == [(100, 85, 125, 101), (110, 20, 150, 60)]
    [prediction] = body["predictions"]
    assert prediction["image"] == {"name": "upload", "width": WIDTH, "height": HEIGHT}
    assert {tuple(mask["size"]) for mask in prediction["instances"]["masks"]} == {(HEIGHT, WIDTH)}


async def test_region_and_tiles_combine(serve: Serve, detector: FakeDetector) -> None:
    body = await ask(serve(detector), region="50,0,240,140", tiles="100x100,40")
    assert boxes_of(body) == [OBJECTS[30], OBJECTS[20]]
    assert body["predictions"][0]["tiles"] == 3 * 2


async def test_a_region_outside_of_the_image_is_refused(
    serve: Serve, detector: FakeDetector
) -> None:
    body = await ask(serve(detector), region="500,0,600,10")
    assert (body["status"], body["error"]["code"]) == (422, "region_outside")


async def test_too_many_tiles_are_refused_with_the_numbers(
    serve: Serve, detector: FakeDetector
) -> None:
    body = await ask(serve(detector, max_tiles=11), tiles="100x100,40")
    assert (body["status"], body["error"]["code"]) == (413, "too_many_tiles")
    assert body["error"]["details"] == {"limit": 11, "value": 12}


async def test_a_panoptic_map_cannot_be_tiled_but_its_instances_can(serve: Serve) -> None:
    detector = FakeDetector(outputs=("instances", "sem_seg", "panoptic_seg"))
    detector.predicts = rectangles
    served = serve(detector)
    body = await ask(served, tiles="auto")
    assert (body["status"], body["error"]["code"]) == (422, "tiles_not_supported")
    assert boxes_of(await ask(served, tiles="auto", segmentation="none")) == sorted(
        OBJECTS.values()
    )


async def test_proposals_cannot_be_tiled(serve: Serve) -> None:
    body = await ask(serve(FakeDetector(outputs=("proposals",))), tiles="auto")
    assert (body["status"], body["error"]["code"]) == (422, "tiles_not_supported")


async def test_semantic_maps_are_stitched(serve: Serve) -> None:
    detector = FakeDetector(outputs=("sem_seg",), stuff_class_names=tuple(map(str, range(50))))
    detector.predicts = lambda image: Prediction(sem_seg=image.tensor[0].to(torch.int16))
    served = serve(detector)
    whole = await ask(served, segmentation="rle")
    tiled = await ask(served, segmentation="rle", tiles="64x64,20")
    assert tiled["predictions"][0]["sem_seg"] == whole["predictions"][0]["sem_seg"]
    part = await ask(served, region="0,0,40,40")
    segments = {s["category_id"]: s["area"] for s in part["predictions"][0]["sem_seg"]["segments"]}
    assert segments == {0: 1600 - 30 * 25, 10: 30 * 25}


@pytest.mark.parametrize(("classes", "outside"), [(50, 255), (256, 65535)])
async def test_the_picture_of_a_semantic_map_tells_no_class_outside_of_a_region(
    serve: Serve, classes: int, outside: int
) -> None:
    detector = FakeDetector(outputs=("sem_seg",), stuff_class_names=tuple(map(str, range(classes))))
    detector.predicts = lambda image: Prediction(
        sem_seg=torch.full((image.height, image.width), classes - 1, dtype=torch.int16)
    )
    body = await ask(serve(detector), region="0,0,40,30")
    file = base64.b64decode(body["predictions"][0]["sem_seg"]["png"])
    values = np.asarray(Image.open(io.BytesIO(file)))
    assert (values[:30, :40] == classes - 1).all()
    assert (values == outside).sum() == HEIGHT * WIDTH - 30 * 40


async def test_filters_act_on_the_merged_answer(serve: Serve, detector: FakeDetector) -> None:
    served = serve(detector)
    assert len(boxes_of(await ask(served, tiles="100x100,40", max_detections=2))) == 2
    assert boxes_of(await ask(served, tiles="100x100,40", classes="square")) == []


async def test_the_models_own_bound_is_one_on_each_tile(serve: Serve) -> None:
    detector = FakeDetector(max_detections=2, default_max_detections=1)
    detector.predicts = rectangles
    assert len(boxes_of(await ask(serve(detector), tiles="100x100,40"))) == 4


async def test_each_tile_takes_a_place_and_gives_it_back(
    serve: Serve, detector: FakeDetector
) -> None:
    served = serve(detector, max_queue=20)
    detector.go.clear()
    first = asyncio.ensure_future(ask(served, tiles="100x100,40"))
    await asyncio.to_thread(detector.entered)
    assert served.runtime.scheduler.depth == 12
    body = await ask(served, tiles="100x100,40")
    assert (body["status"], body["error"]["code"]) == (429, "queue_full")
    detector.go.set()
    assert (await first)["status"] == 200
    assert served.runtime.scheduler.depth == 0
    labels = {"model": "shapes", "version": "1"}
    assert served.metric("predictions_total", outcome="queue_full", **labels) == 1
    assert served.metric("predictions_total", outcome="ok", **labels) == 1


async def test_several_tiled_images_of_a_request_never_need_more_than_there_is(
    serve: Serve, detector: FakeDetector
) -> None:
    served = serve(detector, max_queue=14)
    data = file_of(canvas())
    response = await served.client.post(
        "/predict", files=[("images", data)] * 3, params={"tiles": "100x100,40"}
    )
    assert [p.get("tiles") for p in response.json()["predictions"]] == [12, 12, 12]


async def test_a_few_tiles_wait_at_a_time_so_that_others_get_their_turn(
    serve: Serve, detector: FakeDetector
) -> None:
    served = serve(detector, max_batch_size=1)
    detector.go.clear()
    large = asyncio.ensure_future(ask(served, tiles="60x60,20"))
    await asyncio.to_thread(detector.entered)
    while served.runtime.scheduler.waiting < 1:
        await asyncio.sleep(0)
    small = asyncio.ensure_future(ask(served, picture(200)))
    while served.runtime.scheduler.waiting < 2:
        await asyncio.sleep(0)
    detector.go.set()
    assert (await small)["status"] == (await large)["status"] == 200
    assert [200] in detector.batches[:4]
    assert len(detector.batches) > 20


async def predict(
    served: Served, *, timeout_s: float = 20, tell: Callable[[int, int], None] | None = None
) -> list[ImageAnswer]:
    lease = RequestLease()
    served.runtime.scheduler.reserve(1)
    try:
        return await served.runtime.pipeline.predict(
            [Upload("a.png", file_of(canvas()))],
            served.runtime.repository.get(),
            PredictOptions.parse({"tiles": "100x100,40"}),
            lease,
            timeout_s=timeout_s,
            progress=tell,
        )
    finally:
        lease.end()
        served.runtime.scheduler.unreserve(1)


async def test_progress_is_told_tile_by_tile(serve: Serve, detector: FakeDetector) -> None:
    told: list[tuple[int, int]] = []
    await predict(serve(detector), tell=lambda done, total: told.append((done, total)))
    assert told == [(done, 12) for done in range(13)]


async def test_of_an_image_that_fails_all_parts_are_done(
    serve: Serve, detector: FakeDetector
) -> None:
    def fails(image: PreparedImage) -> Prediction:
        raise RuntimeError("a kernel failed")

    served = serve(detector)
    detector.predicts = fails
    told: list[tuple[int, int]] = []
    [answer] = await predict(served, tell=lambda done, total: told.append((done, total)))
    assert answer.error is not None
    assert answer.error.code == "inference_failed"
    assert told[-1] == (12, 12)
    assert served.runtime.scheduler.depth == 0


async def test_a_client_that_leaves_takes_all_tiles_along(
    serve: Serve, detector: FakeDetector
) -> None:
    served = serve(detector, max_batch_size=1)
    detector.go.clear()
    task = asyncio.ensure_future(predict(served))
    await asyncio.to_thread(detector.entered)
    task.cancel()
    await asyncio.wait([task])
    assert served.runtime.scheduler.depth == 0
    detector.go.set()
    await ask(served, picture(200))
    assert len(detector.batches) == 2
    labels = {"model": "shapes", "version": "1"}
    assert served.metric("predictions_total", outcome="disconnected", **labels) == 1


async def test_a_missed_deadline_drops_the_tiles(serve: Serve, detector: FakeDetector) -> None:
    served = serve(detector, max_batch_size=1)
    detector.go.clear()
    with pytest.raises(DeadlineMissed):
        await predict(served, timeout_s=0.2)
    assert served.runtime.scheduler.depth == 0
    detector.go.set()
    await ask(served, picture(200))
    assert len(detector.batches) <= 2


async def test_all_tiles_are_of_one_version_though_a_swap_comes_between(serve: Serve) -> None:
    old, new = FakeDetector(1), FakeDetector(2, recipe="bgr")
    old.predicts = new.predicts = rectangles
    served = serve(loader=FakeLoader(old), max_batch_size=1)
    model = served.runtime.repository.get()
    old.go.clear()
    bound = asyncio.ensure_future(ask(served, tiles="100x100,40"))
    await asyncio.to_thread(old.entered)
    model.current = ModelVersion("shapes", "2", new)
    served.runtime.metrics.version_ready(model.current)
    waiting = asyncio.ensure_future(ask(served, tiles="100x100,40"))
    while served.runtime.scheduler.depth < 24:
        await asyncio.sleep(0)
    old.go.set()
    first, second = await bound, await waiting
    assert [body["model"]["version"] for body in (first, second)] == ["1", "2"]
    assert boxes_of(first) == boxes_of(second) == sorted(OBJECTS.values())
    assert (len(old.batches), len(new.batches)) == (12, 12)


async def test_proposals_of_a_tile_are_what_it_shows_of_them(serve: Serve) -> None:
    detector = FakeDetector(takes_proposals=True)
    detector.predicts = rectangles
    served = serve(detector)
    await ask(served, proposals="[[[10, 10, 150, 60]]]", region="100,50,240,200")
    [(_, given)] = detector.given
    assert given is not None
    assert given.tolist() == [[0, 0, 50, 10]]

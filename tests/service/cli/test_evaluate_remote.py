"""detserve evaluate of a server: the answers that it gets, and what it asks for."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from coco_ap import DATA
from fake_detector import FakeDetector, picture
from fake_server import Serve, Served

from models.evaluation import CocoDataset, EvaluationError
from models.structures import Boxes, Instances
from service.app import create_app
from service.cli.evaluate_local import LocalModel, embedded_model
from service.cli.evaluate_measure import measure
from service.cli.evaluate_remote import RemoteModel
from service.cli.evaluate_sources import Picture
from service.client import Client, Retry
from service.inference.detector import Prediction
from service.runtime import Runtime
from service.settings import Settings

URL = "http://localhost"


class InProcess(httpx.BaseTransport):
    """Sends the requests of threads to an app that runs on an event loop of its own.

    Attributes:
        seen: the requests.
        before: called with each; a response in the place of the app's, or None.
    """

    def __init__(self, app: Any) -> None:
        self.seen: list[httpx.Request] = []
        self.before: Callable[[httpx.Request], httpx.Response | None] = lambda request: None
        self._inner = httpx.ASGITransport(app)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.seen.append(request)
        if (instead := self.before(request)) is not None:
            return instead
        return asyncio.run_coroutine_threadsafe(self._answer(request), self._loop).result(60)

    async def _answer(self, request: httpx.Request) -> httpx.Response:
        content = request.read()
        sent = httpx.Request(request.method, request.url, headers=request.headers, content=content)
        response = await self._inner.handle_async_request(sent)
        return httpx.Response(
            response.status_code, headers=response.headers, content=await response.aread()
        )

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


Connect = Callable[..., tuple[RemoteModel, InProcess]]


@pytest.fixture
def connect() -> Iterator[Connect]:
    """``connect(app, name, version, token=...)``."""
    running: list[tuple[InProcess, httpx.Client]] = []

    def start(
        app: Any, name: str | None = None, version: str | None = None, **options: Any
    ) -> tuple[RemoteModel, InProcess]:
        transport = InProcess(app)
        http = httpx.Client(transport=transport)
        running.append((transport, http))
        client = Client(URL, http=http, retry=Retry(base_s=0.0), **options)
        return RemoteModel(client, URL, name, version), transport

    yield start
    for transport, http in running:
        http.close()
        transport.stop()


@pytest.fixture
def pictures(tmp_path: Path) -> list[Picture]:
    found = []
    for mark in range(12):
        path = tmp_path / f"{mark}.png"
        path.write_bytes(picture(mark, (20, 30)))
        found.append(Picture(path, (20, 30)))
    return found


def test_answers_come_in_order_and_in_full_precision(
    serve: Serve, connect: Connect, pictures: list[Picture]
) -> None:
    scores = torch.rand(3, generator=torch.Generator().manual_seed(1))
    served = serve(FakeDetector())
    served.detector.predicts = lambda image: Prediction(
        instances=Instances(
            (20, 30),
            pred_boxes=Boxes(torch.full((3, 4), float(image.tensor[0, 0, 0]) + 1 / 3)),
            scores=scores,
            pred_classes=torch.arange(3),
            pred_masks=torch.ones(3, 1, 4, 4),
        )
    )
    model, _ = connect(served.app)
    answers = [answer.instances for answer in model.answers(pictures, "none")]
    for mark, instances in enumerate(answers):
        assert instances is not None
        assert torch.equal(instances.scores, scores)
        assert torch.equal(instances.pred_boxes.tensor, torch.full((3, 4), mark + 1 / 3))
        assert instances.image_size == (20, 30)
        assert all(set(mask) == {"size", "counts"} for mask in instances.pred_masks)


def test_the_models_own_threshold_and_cap_are_asked_for(
    serve: Serve, connect: Connect, pictures: list[Picture]
) -> None:
    detector = FakeDetector(default_score_threshold=0.7, default_max_detections=1)
    model, transport = connect(serve(detector).app)
    (answer,) = model.answers(pictures[:1], "none")
    assert answer.instances is not None
    assert len(answer.instances) == 3  # of one alone by the server's defaults
    sent = transport.seen[-1].url.params
    assert (sent["score_threshold"], sent["max_detections"]) == ("0.05", "100")
    assert (sent["model"], sent["masks"], sent["tta"]) == ("shapes", "rle", "none")
    assert model.subject.score_threshold == 0.05


def test_a_busy_server_is_asked_again(
    serve: Serve, connect: Connect, pictures: list[Picture]
) -> None:
    model, transport = connect(serve(FakeDetector()).app)
    refused = iter([429, 503, 429])

    def busy(request: httpx.Request) -> httpx.Response | None:
        status = next(refused, None) if request.url.path == "/predict" else None
        return httpx.Response(status) if status is not None else None

    transport.before = busy
    assert len(list(model.answers(pictures, "none"))) == len(pictures)
    predictions = [request for request in transport.seen if request.url.path == "/predict"]
    assert len(predictions) == len(pictures) + 3


def test_few_requests_are_on_their_way_at_once(
    serve: Serve, connect: Connect, pictures: list[Picture]
) -> None:
    model, transport = connect(serve(FakeDetector()).app)
    lock, now, most = threading.Lock(), 0, 0

    def before(request: httpx.Request) -> httpx.Response | None:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        return None

    answer = transport._answer

    async def counted(request: httpx.Request) -> httpx.Response:
        nonlocal now
        response = await answer(request)
        with lock:
            now -= 1
        return response

    transport.before, transport._answer = before, counted  # type: ignore[method-assign]  # a spy
    list(model.answers(pictures, "none"))
    assert 1 <= most <= 4


def test_tta_is_the_servers(serve: Serve, connect: Connect, pictures: list[Picture]) -> None:
    model, _ = connect(serve(FakeDetector()).app)
    assert not model.subject.has_tta
    with pytest.raises(EvaluationError, match=r"0\.png: There is no test-time augmentation"):
        list(model.answers(pictures, "flip"))


def test_a_picture_of_another_size_ends_it(
    serve: Serve, connect: Connect, pictures: list[Picture]
) -> None:
    model, _ = connect(serve(FakeDetector()).app)
    with pytest.raises(EvaluationError, match=r"0\.png has 30x20 pixels to the server"):
        list(model.answers([Picture(pictures[0].path, (21, 30))], "none"))


def test_a_picture_that_the_server_cannot_use_ends_it(
    serve: Serve, connect: Connect, tmp_path: Path
) -> None:
    (tmp_path / "broken.png").write_bytes(picture(1)[:40])
    model, _ = connect(serve(FakeDetector()).app)
    with pytest.raises(EvaluationError, match=r"broken\.png: "):
        list(model.answers([Picture(tmp_path / "broken.png", (32, 32))], "none"))


def test_a_picture_that_is_not_there_is_a_sentence(
    serve: Serve, connect: Connect, tmp_path: Path
) -> None:
    model, _ = connect(serve(FakeDetector()).app)
    with pytest.raises(EvaluationError, match=r"no\.png cannot be read: No such file"):
        list(model.answers([Picture(tmp_path / "no.png")], "none"))


def test_a_swap_during_the_evaluation_ends_it(
    serve: Serve, connect: Connect, pictures: list[Picture]
) -> None:
    served = serve(FakeDetector(1), FakeDetector(2))
    model, transport = connect(served.app)
    answers = model.answers(pictures[:1], "none")
    assert len(list(answers)) == 1
    reload = httpx.Request("POST", f"{URL}/reload", json={})
    assert transport.handle_request(reload).status_code == 200
    with pytest.raises(EvaluationError, match="from version 1 to 2 during the evaluation"):
        list(model.answers(pictures, "none"))


def test_a_named_version_is_measured_above_its_own_threshold(
    serve: Serve, connect: Connect, pictures: list[Picture]
) -> None:
    served = serve(FakeDetector(1), FakeDetector(2), FakeDetector(1, score_threshold=0.4))
    _swap_and_load_the_first_again(served, connect)
    model, transport = connect(served.app, "shapes", "1")
    (answer,) = model.answers(pictures[:1], "none")
    assert answer.instances is not None
    assert transport.seen[-1].url.params["score_threshold"] == "0.4"
    assert transport.seen[-1].url.params["version"] == "1"


def test_a_named_version_with_other_classes_ends_it(
    serve: Serve, connect: Connect, pictures: list[Picture]
) -> None:
    served = serve(FakeDetector(1), FakeDetector(2), FakeDetector(1, class_names=("a", "b", "c")))
    _swap_and_load_the_first_again(served, connect)
    model, _ = connect(served.app, "shapes", "1")
    with pytest.raises(EvaluationError, match="another list of classes than the current one"):
        list(model.answers(pictures[:1], "none"))


def _swap_and_load_the_first_again(served: Served, connect: Connect) -> None:
    """Version 2 is current, and 1 is loaded beside it, as another detector."""
    _, transport = connect(served.app)
    for path in ("/reload", "/models/shapes/versions/1/load"):
        answer = transport.handle_request(httpx.Request("POST", URL + path, json={}))
        assert answer.status_code == 200, answer.text


def test_a_wrong_token_and_an_unknown_model_are_sentences(serve: Serve, connect: Connect) -> None:
    served = serve(FakeDetector(), inference_token="secret")
    with pytest.raises(EvaluationError, match="token"):
        connect(served.app, token="wrong")
    with pytest.raises(EvaluationError, match="no model 'cars'"):
        connect(served.app, "cars", token="secret")
    assert connect(served.app, token="secret")[0].subject.class_names[0] == "disc"


def test_a_server_that_is_not_there_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    from service.cli import evaluate_remote

    monkeypatch.setattr(evaluate_remote, "PATIENCE", Retry(attempts=1))
    with pytest.raises(EvaluationError, match="cannot be reached"):
        RemoteModel.connect("http://127.0.0.1:9", name=None, version=None, token=None)
    with pytest.raises(EvaluationError, match="is not the address of a server"):
        RemoteModel.connect("localhost", name=None, version=None, token=None)


def test_maps_are_those_of_the_answer(
    serve: Serve, connect: Connect, pictures: list[Picture]
) -> None:
    semantic = torch.arange(600).reshape(20, 30).remainder(3).to(torch.int16)
    segments = torch.zeros(20, 30, dtype=torch.int32)
    segments[5:10] = 1
    info = [{"id": 1, "isthing": True, "category_id": 2, "score": 0.9}]
    detector = FakeDetector(
        task="panoptic_segmentation",
        outputs=("instances", "sem_seg", "panoptic_seg"),
        stuff_class_names=("things", "sky", "road"),
    )
    find = detector._find
    detector.predicts = lambda image: Prediction(
        instances=find(image), sem_seg=semantic, panoptic_seg=(segments, info)
    )
    model, _ = connect(serve(detector).app)
    (answer,) = model.answers(pictures[:1], "none")
    assert answer.sem_seg is not None
    assert answer.panoptic_seg is not None
    assert np.array_equal(answer.sem_seg, semantic)
    assert np.array_equal(answer.panoptic_seg[0], segments)
    (segment,) = answer.panoptic_seg[1]
    assert (segment["id"], segment["isthing"], segment["category_id"]) == (1, True, 2)
    assert model.subject.stuff_class_names == ("things", "sky", "road")


def test_a_server_is_measured_as_its_files_are(connect: Connect) -> None:
    dataset = CocoDataset.load(DATA / "val.json").subset(5)
    runtime = Runtime(Settings(_env_file=None, device="cpu"))
    try:
        runtime.load()
        remote, _ = connect(create_app(runtime))
        local = LocalModel.load(embedded_model(), device="cpu", mode="exact")
        results = [
            measure(
                source,
                dataset,
                tta="none",
                score_threshold=0.5,
                iou_threshold=0.5,
                progress=lambda done, of: None,
            ).result
            for source in (remote, local)
        ]
    finally:
        runtime.close()
    assert results[0].detections == results[1].detections > 0
    for kind in ("bbox", "segm"):
        assert results[0].ap(kind) == pytest.approx(results[1].ap(kind), abs=0.01)

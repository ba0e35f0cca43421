"""/predict/batch: taken in, run beside other traffic, told as it goes, cancelled, ended, bounded."""

import asyncio
import io
import json
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fake_detector import FakeDetector, answered_mark, number_of, picture
from fake_repository import FolderLoader, make_version
from fake_server import Serve, Served
from http_checks import until

from service.batches.spool import PREFIX
from service.encoding.formats import coco as coco_format
from service.errors import DeadlineMissed
from service.inference.windows.progress import Tell
from service.schemas.answers import Prediction
from service.schemas.batch import BatchAnswer

pytestmark = pytest.mark.anyio
ZIP = {"Content-Type": "application/zip"}


@pytest.fixture
def spooled(serve: Serve, tmp_path: Path) -> Any:
    """``serve`` with its batches under ``tmp_path``."""

    def start(*detectors: FakeDetector, **options: Any) -> Served:
        return serve(*detectors, batch_dir=tmp_path / "spool", **options)

    return start


def pictures(number: int) -> list[tuple[str, Any]]:
    return [("images", (f"{mark}.png", picture(mark))) for mark in range(1, number + 1)]


def zipped(number: int) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for mark in range(1, number + 1):
            archive.writestr(f"shots/{mark}.png", picture(mark))
    return file.getvalue()


async def begin(served: Served, files: Any = None, **options: Any) -> str:
    """A job's path."""
    response = await served.client.post("/predict/batch", files=files or pictures(5), data=options)
    assert response.status_code == 202, response.text
    job = BatchAnswer.model_validate(response.json())
    assert response.headers["location"] == job.status
    assert (job.state, job.done) == ("running", 0)
    return job.status


async def told(served: Served, path: str) -> BatchAnswer:
    response = await served.client.get(path)
    assert response.status_code == 200, response.text
    return BatchAnswer.model_validate(response.json())


async def lines_of(served: Served, path: str) -> list[dict[str, Any]]:
    """The whole result, by the images' places."""
    response = await served.client.get(f"{path}/result")
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/x-ndjson"
    return sorted(map(json.loads, response.text.splitlines()), key=lambda line: line["index"])


def on_disk(tmp_path: Path) -> list[str]:
    """Files of jobs, and folders of processes."""
    return sorted(path.name for path in (tmp_path / "spool").rglob("*") if path.is_file())


async def test_a_form_of_files_is_answered_image_by_image(spooled: Any) -> None:
    served = spooled(FakeDetector())
    path = await begin(served, [*pictures(4), ("images", ("bad.png", b"no picture"))])
    lines = await lines_of(served, path)
    assert [line["index"] for line in lines] == [0, 1, 2, 3, 4]
    assert [answered_mark(line) for line in lines[:4]] == [1, 2, 3, 4]
    assert lines[4]["error"]["code"] == "unsupported_image_format"
    assert lines[4]["image"] == {"name": "bad.png"}
    for line in lines:
        keys = Prediction.model_fields.keys() & line.keys()
        Prediction.model_validate({key: line[key] for key in keys})
    job = await told(served, path)
    assert (job.state, job.total, job.done, job.errors) == ("succeeded", 5, 5, 1)
    assert (job.versions, job.eta_s, job.error) == ({"1": 4}, 0.0, None)
    assert (job.parts_done, job.parts_total) == (5, 5)
    assert job.finished_at is not None
    assert served.runtime.scheduler.depth == 0


@pytest.mark.parametrize("way", ["body", "form"])
async def test_a_zip_is_answered_image_by_image(spooled: Any, way: str) -> None:
    served = spooled(FakeDetector())
    send: dict[str, Any] = (
        {"content": zipped(3), "headers": ZIP}
        if way == "body"
        else {"files": {"images": ("all.zip", zipped(3))}}
    )
    response = await served.client.post("/predict/batch?score_threshold=0.5", **send)
    assert response.status_code == 202, response.text
    lines = await lines_of(served, response.json()["status"])
    assert [line["image"]["name"] for line in lines] == ["1.png", "2.png", "3.png"]
    assert [len(line["instances"]["scores"]) for line in lines] == [2, 2, 2]


async def test_options_of_the_form_count_for_every_image(spooled: Any) -> None:
    served = spooled(FakeDetector())
    path = await begin(served, classes="square", masks="none")
    for line in await lines_of(served, path):
        assert line["instances"]["pred_classes"] == [1]
        assert "masks" not in line["instances"]


async def test_the_result_is_streamed_while_the_job_runs(spooled: Any, come: Any) -> None:
    detector = FakeDetector()
    served = spooled(detector, max_batch_size=1)
    path = await begin(served, pictures(3))
    job = served.runtime.batches.get(path.rpartition("/")[2])
    stream: AsyncIterator[bytes] = job.results()
    await anext(stream)
    detector.go.clear()
    rest = asyncio.create_task(_all(stream))
    await come(detector.held)
    assert not rest.done()
    running = await told(served, path)
    assert running.state == "running"
    assert running.eta_s is not None
    assert (await served.client.get(f"{path}/result?format=coco")).status_code == 409
    detector.go.set()
    await rest
    assert (await told(served, path)).state == "succeeded"


async def _all(stream: AsyncIterator[bytes]) -> bytes:
    return b"".join([chunk async for chunk in stream])


async def test_coco_results_are_those_of_the_lines(spooled: Any) -> None:
    served = spooled(FakeDetector())
    path = await begin(served, [*pictures(3), ("images", ("7.png", b"no picture"))])
    lines = await lines_of(served, path)
    response = await served.client.get(f"{path}/result?format=coco")
    results = response.json()
    assert response.headers["content-type"] == "application/json"
    assert {result["image_id"] for result in results} == {1, 2, 3}  # as the files are called
    assert len(results) == sum(len(line["instances"]["scores"]) for line in lines[:3])
    names = coco_format.categories_of(served.detector.description)
    of_two = [result for result in results if result["image_id"] == 2]
    assert [result["category_id"] for result in of_two] == list(names[:3])
    assert of_two[0]["bbox"] == [0.125, 0.25, 31.875, 31.75]
    assert of_two[0]["segmentation"] == lines[1]["instances"]["masks"][0]


async def test_coco_results_of_nothing_are_an_empty_list(spooled: Any) -> None:
    served = spooled(FakeDetector())
    path = await begin(served, score_threshold="0.99")
    await lines_of(served, path)
    assert (await served.client.get(f"{path}/result?format=coco")).json() == []


@pytest.mark.parametrize("options", [{"boxes": "xywh"}, {"masks": "polygon"}])
async def test_other_boxes_and_masks_make_no_coco_results(
    spooled: Any, options: dict[str, str]
) -> None:
    served = spooled(FakeDetector())
    path = await begin(served, **options)
    await lines_of(served, path)
    response = await served.client.get(f"{path}/result?format=coco")
    assert response.json()["error"]["code"] == "invalid_option"
    assert (await served.client.get(f"{path}/result?format=xml")).status_code == 422


async def test_a_swap_in_between_is_told_line_by_line(
    spooled: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_version(tmp_path, "1")
    served = spooled(loader=FolderLoader(), repository=tmp_path, max_batch_size=1)
    make_version(tmp_path, "2")
    predict = served.runtime.pipeline.predict

    async def swap_before_the_third(uploads: Any, *args: Any, **options: Any) -> Any:
        if uploads[0].name == "3.png":
            reload = await served.client.post("/reload", json={"version": "2"})
            assert reload.status_code == 200, reload.text
        return await predict(uploads, *args, **options)

    monkeypatch.setattr(served.runtime.pipeline, "predict", swap_before_the_third)
    path = await begin(served, pictures(4))
    lines = await lines_of(served, path)
    assert [line["model"]["version"] for line in lines] == ["1", "1", "2", "2"]
    assert [number_of(line) for line in lines] == [1, 1, 2, 2]
    assert (await told(served, path)).versions == {"1": 2, "2": 2}


async def test_an_image_on_which_the_model_fails_has_its_own_error(spooled: Any) -> None:
    detector = FakeDetector()
    detector.fail_on = {2}
    served = spooled(detector)
    path = await begin(served, pictures(3))
    lines = await lines_of(served, path)
    assert [line.get("error", {}).get("code") for line in lines] == [None, "inference_failed", None]
    assert (await told(served, path)).state == "succeeded"


# How far it is: pictures of 96 by 96 pixels have nine tiles.

TILES = "32x32,0"


def large(mark: int) -> tuple[str, Any]:
    return ("images", (f"{mark}.png", picture(mark, (96, 96))))


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Any:
    """``steps(served)``: what the status says of the job after every step of its images."""

    def watch(served: Served) -> list[BatchAnswer]:
        seen: list[BatchAnswer] = []
        predict = served.runtime.pipeline.predict

        async def watched(*args: Any, progress: Tell, **options: Any) -> Any:
            def tell(done: int, total: int) -> None:
                progress(done, total)
                [job] = served.runtime.batches._jobs.values()
                seen.append(BatchAnswer.model_validate(job.to_dict()))

            return await predict(*args, progress=tell, **options)

        monkeypatch.setattr(served.runtime.pipeline, "predict", watched)
        return seen

    return watch


async def test_tiled_images_are_told_tile_by_tile(spooled: Any, steps: Any) -> None:
    served = spooled(FakeDetector(), max_batch_size=1)
    seen = steps(served)
    path = await begin(served, [large(1), large(2)], tiles=TILES)
    assert [line["tiles"] for line in await lines_of(served, path)] == [9, 9]
    first, second = seen[:10], seen[10:]
    assert [(job.done, job.parts_done, job.parts_total) for job in first] == [
        (0, done, 9 + 1) for done in range(10)
    ]
    assert [(job.done, job.parts_done, job.parts_total) for job in second] == [
        (1, 9 + done, 18) for done in range(10)
    ]
    assert first[0].eta_s is None
    assert None not in [job.eta_s for job in seen[1:]]
    end = await told(served, path)
    assert (end.done, end.parts_done, end.parts_total, end.eta_s) == (2, 18, 18, 0.0)


async def test_plain_images_are_a_part_each(spooled: Any, steps: Any) -> None:
    served = spooled(FakeDetector(), max_batch_size=1)
    seen = steps(served)
    await lines_of(served, await begin(served, pictures(3)))
    assert [(job.parts_done, job.parts_total) for job in seen] == [(1, 3), (2, 3), (3, 3)]


async def test_of_a_tiled_image_that_fails_all_parts_are_done(spooled: Any) -> None:
    detector = FakeDetector()
    detector.fail_on = {1}
    served = spooled(detector)
    path = await begin(served, [large(1), ("images", ("bad.png", b"no picture"))], tiles=TILES)
    await lines_of(served, path)
    job = await told(served, path)
    assert (job.done, job.errors, job.parts_done, job.parts_total) == (2, 2, 10, 10)


async def test_a_tiled_image_that_is_tried_again_begins_anew(
    spooled: Any, steps: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = spooled(FakeDetector(), max_batch_size=1)
    seen = steps(served)
    predict = served.runtime.pipeline.predict
    tries: list[str] = []

    async def late_once(*args: Any, progress: Tell, **options: Any) -> Any:
        tries.append("")
        if len(tries) == 1:
            progress(4, 9)
            raise DeadlineMissed("deadline_missed", "Too late.")
        return await predict(*args, progress=progress, **options)

    monkeypatch.setattr(served.runtime.pipeline, "predict", late_once)
    path = await begin(served, [large(1)], tiles=TILES)
    await lines_of(served, path)
    assert [(job.parts_done, job.parts_total) for job in seen] == [(done, 9) for done in range(10)]
    end = await told(served, path)
    assert (end.parts_done, end.parts_total) == (9, 9)


# Beside other traffic


async def test_no_more_than_one_batch_is_in_the_house(spooled: Any, come: Any) -> None:
    detector = FakeDetector()
    served = spooled(detector, max_batch_size=2, max_queue=16)
    detector.go.clear()
    path = await begin(served, pictures(9))
    await come(detector.held)
    await until(lambda: served.runtime.scheduler.depth == 2)
    answer = asyncio.create_task(served.client.post("/predict", content=picture(50)))
    await until(lambda: served.runtime.scheduler.depth == 3)
    detector.go.set()
    assert (await answer).status_code == 200
    await lines_of(served, path)
    place = next(i for i, batch in enumerate(detector.batches) if 50 in batch)
    assert sum(map(len, detector.batches[:place])) <= 2
    assert max(map(len, detector.batches)) <= 3


async def test_a_full_queue_is_waited_for_and_not_counted_as_refusals(
    spooled: Any, come: Any
) -> None:
    detector = FakeDetector()
    served = spooled(detector, max_queue=1)
    detector.go.clear()
    answer = asyncio.create_task(served.client.post("/predict", content=picture(50)))
    await come(detector.held)
    path = await begin(served, pictures(2))
    assert (await told(served, path)).done == 0
    detector.go.set()
    assert (await answer).status_code == 200
    assert [answered_mark(line) for line in await lines_of(served, path)] == [1, 2]
    labels = {"model": "shapes", "version": "1", "outcome": "queue_full"}
    assert served.metric("predictions_total", **labels) == 0


async def test_a_missed_deadline_is_tried_again(
    spooled: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = spooled(FakeDetector())
    predict = served.runtime.pipeline.predict
    missed: list[str] = []

    async def late(uploads: Any, *args: Any, **options: Any) -> Any:
        name = uploads[0].name
        missed.append(name)
        if name == "2.png" or missed.count(name) < 3:
            raise DeadlineMissed("deadline_missed", "Too late.")
        return await predict(uploads, *args, **options)

    monkeypatch.setattr(served.runtime.pipeline, "predict", late)
    lines = await lines_of(served, await begin(served, pictures(2)))
    assert answered_mark(lines[0]) == 1
    assert lines[1]["error"]["code"] == "deadline_missed"
    assert sorted(missed) == ["1.png"] * 3 + ["2.png"] * 3


# How it ends


async def test_delete_cancels_and_leaves_nothing(spooled: Any, come: Any, tmp_path: Path) -> None:
    detector = FakeDetector()
    served = spooled(detector, max_batch_size=1)
    detector.go.clear()
    path = await begin(served)
    await come(detector.held)
    stream = asyncio.create_task(served.client.get(f"{path}/result"))
    response = await served.client.delete(path)
    assert BatchAnswer.model_validate(response.json()).state == "cancelled"
    assert json.loads((await stream).text)["error"]["code"] == "batch_cancelled"
    detector.go.set()
    await until(lambda: served.runtime.scheduler.depth == 0)
    for method, place in (("GET", path), ("GET", f"{path}/result"), ("DELETE", path)):
        response = await served.client.request(method, place)
        assert (response.status_code, response.json()["error"]["code"]) == (404, "unknown_batch")
    assert on_disk(tmp_path) == []
    assert len(detector.batches) == 1
    assert served.runtime.batches._spool.used == 0


async def test_a_server_that_drains_interrupts(spooled: Any, come: Any) -> None:
    detector = FakeDetector()
    served = spooled(detector, max_batch_size=1)
    detector.go.clear()
    path = await begin(served)
    await come(detector.held)
    served.runtime.draining = True
    detector.go.set()
    response = await served.client.get(f"{path}/result")
    *lines, last = map(json.loads, response.text.splitlines())
    assert len(lines) == 1
    assert last["error"]["code"] == "batch_interrupted"
    job = await told(served, path)
    assert (job.state, job.done) == ("interrupted", 1)
    coco = await served.client.get(f"{path}/result?format=coco")
    assert coco.json()["error"]["code"] == "batch_ended_early"
    refused = await served.client.post("/predict/batch", files=pictures(1))
    assert refused.status_code == 503


async def test_the_images_go_at_the_end_and_the_result_stays(spooled: Any, tmp_path: Path) -> None:
    served = spooled(FakeDetector())
    path = await begin(served)
    assert len(await lines_of(served, path)) == 5
    await until(lambda: on_disk(tmp_path) == ["results.ndjson"])
    assert len(await lines_of(served, path)) == 5
    size = next((tmp_path / "spool").rglob("results.ndjson")).stat().st_size
    await until(lambda: served.runtime.batches._spool.used == size)
    assert (await told(served, path)).expires_at is not None


async def test_the_result_goes_after_its_time(spooled: Any, tmp_path: Path) -> None:
    served = spooled(FakeDetector(), batch_ttl_s=0.01)
    path = await begin(served)
    await until(lambda: not served.runtime.batches._jobs)
    # Counted behind the removal; to look into a folder that just goes would fail.
    await until(lambda: served.runtime.batches._spool.used == 0)
    assert on_disk(tmp_path) == []
    assert (await served.client.get(path)).status_code == 404


async def test_a_server_that_ends_removes_all(spooled: Any, tmp_path: Path, come: Any) -> None:
    detector = FakeDetector()
    served = spooled(detector)
    detector.go.clear()
    await begin(served)
    await come(detector.held)
    assert len(list((tmp_path / "spool").glob(f"{PREFIX}*"))) == 1
    detector.go.set()
    served.runtime.close()
    assert list((tmp_path / "spool").iterdir()) == []


async def test_a_server_that_starts_removes_what_another_left(spooled: Any, tmp_path: Path) -> None:
    left = tmp_path / "spool" / f"{PREFIX}left"
    left.mkdir(parents=True)
    (left / "image").touch()
    spooled(FakeDetector())
    assert not left.exists()


# What is refused


@pytest.mark.parametrize(
    ("send", "status", "code"),
    [
        (
            {"content": b"x", "headers": {"Content-Type": "image/png"}},
            415,
            "unsupported_content_type",
        ),
        ({"content": b"no zip", "headers": ZIP}, 422, "invalid_archive"),
        ({"files": {"x": (None, "1")}}, 422, "no_images"),
        ({"files": {"other": ("a.png", b"x")}}, 422, "unknown_field"),
        ({"files": pictures(1), "data": {"proposals": "[[]]"}}, 422, "invalid_option"),
        ({"files": pictures(1), "data": {"format": "coco"}}, 422, "invalid_option"),
        ({"files": pictures(1), "data": {"tta": "99999"}}, 422, "tta_not_supported"),
        ({"files": pictures(1), "data": {"model": "car"}}, 404, "unknown_model"),
        ({"files": pictures(1), "data": {"version": "7"}}, 404, "unknown_version"),
        ({"files": pictures(1), "params": {"no_such": "1"}}, 422, "unknown_option"),
        ({"files": [*pictures(1), ("images", ("a.zip", zipped(1)))]}, 422, "mixed_batch"),
        ({"files": pictures(7)}, 413, "too_many_images"),
        ({"content": zipped(7), "headers": ZIP}, 413, "too_many_images"),
        ({"files": {"images": ("a.png", bytes(3000))}}, 413, "field_too_large"),
        ({"content": bytes(30_000), "headers": ZIP}, 413, "body_too_large"),
    ],
)
async def test_what_cannot_be_a_batch_is_refused_and_leaves_nothing(
    spooled: Any, tmp_path: Path, send: dict[str, Any], status: int, code: str
) -> None:
    served = spooled(
        FakeDetector(), max_batch_images=6, max_batch_bytes=20_000, max_body_bytes=2048
    )
    response: httpx.Response = await served.client.post("/predict/batch", **send)
    assert (response.status_code, response.json()["error"]["code"]) == (status, code)
    assert on_disk(tmp_path) == []
    assert served.runtime.batches._spool.used == 0


async def test_jobs_are_bounded_and_their_end_makes_room(spooled: Any, come: Any) -> None:
    detector = FakeDetector()
    served = spooled(detector, max_batch_jobs=2)
    detector.go.clear()
    paths = [await begin(served, pictures(1)) for _ in range(2)]
    response = await served.client.post("/predict/batch", files=pictures(1))
    assert (response.status_code, response.json()["error"]["code"]) == (429, "too_many_batches")
    assert int(response.headers["retry-after"]) >= 1
    detector.go.set()
    for path in paths:
        await lines_of(served, path)
    await begin(served, pictures(1))


async def test_results_that_find_no_space_fail_the_job_and_keep_what_there_is(
    spooled: Any,
) -> None:
    served = spooled(FakeDetector(), max_batch_bytes=3000)
    path = await begin(served, pictures(8))
    response = await served.client.get(f"{path}/result")
    *lines, last = map(json.loads, response.text.splitlines())
    assert last["error"]["code"] == "batch_too_large"
    job = await told(served, path)
    assert (job.state, job.done) == ("failed", len(lines))
    assert job.error is not None
    assert job.error.code == "batch_too_large"


async def test_a_disk_that_is_full_is_507(spooled: Any, tmp_path: Path) -> None:
    served = spooled(FakeDetector())
    (tmp_path / "spool").write_text("no folder")
    response = await served.client.post("/predict/batch", files=pictures(1))
    assert (response.status_code, response.json()["error"]["code"]) == (507, "batch_not_written")


async def test_every_route_wants_the_inference_token(spooled: Any) -> None:
    served = spooled(FakeDetector(), inference_token="s3cret")
    paths = [("POST", ""), ("GET", "/x"), ("GET", "/x/result"), ("DELETE", "/x")]
    for method, path in paths:
        response = await served.client.request(method, f"/predict/batch{path}")
        assert response.status_code == 401
    token = {"Authorization": "Bearer s3cret"}
    assert (await served.client.get("/predict/batch/x", headers=token)).status_code == 404

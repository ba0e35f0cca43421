"""What a job tells of itself: its parts, and the time that the rest may take."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from service.batches import job as job_module
from service.batches.job import BatchJob
from service.batches.sources import ImageFiles
from service.batches.spool import Spool
from service.errors import Unprocessable
from service.inference.pipeline import ImageAnswer

pytestmark = pytest.mark.anyio
BEGIN = 100.0
NO_IMAGE = ImageAnswer("a.png", error=Unprocessable("invalid_image", "This is no image."))


class Clock:
    """In the place of ``time``."""

    now = BEGIN

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    fake = Clock()
    monkeypatch.setattr(job_module, "time", fake)
    return fake


@pytest.fixture
def job(tmp_path: Path, clock: Clock) -> Iterator[BatchJob]:
    """Of four images."""
    spool = Spool(tmp_path, 10_000)
    source = ImageFiles([tmp_path / f"{number}.png" for number in range(4)])
    yield BatchJob(source, spool.new_folder(), model="shapes")
    spool.close()


def parts_of(job: BatchJob) -> tuple[int, int]:
    told = job.to_dict()
    return told["parts_done"], told["parts_total"]


async def test_of_plain_images_the_time_is_by_images(job: BatchJob, clock: Clock) -> None:
    assert job.eta_s is None
    job.parts.begin(0)(1, 1)
    await job.add(0, NO_IMAGE, None)
    clock.now = BEGIN + 2
    assert job.eta_s == 3 * 2
    assert parts_of(job) == (1, 4)


def test_the_time_is_known_while_the_first_image_runs(job: BatchJob, clock: Clock) -> None:
    tell = job.parts.begin(0)
    tell(0, 10)
    assert job.eta_s is None
    tell(2, 10)
    clock.now = BEGIN + 1
    # 8 of this image, and 10 each of three that may be as large, at 2 parts a second.
    assert job.eta_s == (8 + 30) / 2
    assert parts_of(job) == (2, 13)


async def test_an_answer_ends_all_parts_of_its_image(job: BatchJob) -> None:
    job.parts.begin(0)(4, 10)
    await job.add(0, NO_IMAGE, None)
    assert (job.done, *parts_of(job)) == (1, 10, 13)


async def test_a_job_that_ended_early_counts_the_images_with_a_line_alone(job: BatchJob) -> None:
    await job.add(0, NO_IMAGE, None)
    job.parts.begin(1)(4, 10)
    assert parts_of(job) == (5, 13)
    job.end("cancelled")
    assert (job.eta_s, *parts_of(job)) == (0.0, 1, 13)

"""The swap: what a reload does, what its failures leave as it was, and when the old version goes."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from fake_detector import PATIENCE_S, FakeDetector, FakeLoader

from models.errors import CheckpointError, ModelError, PathNotAllowedError
from models.structures import Boxes, Instances
from service.errors import ApiError, Conflict, NotFound, Unavailable
from service.inference.scheduler import Scheduler
from service.metrics import Metrics
from service.repository import retiring
from service.repository.house import House as SwapHouse
from service.repository.jobs import KEPT_JOBS, ReloadJob
from service.repository.orders import Wanted, files
from service.repository.repository import Repository
from service.repository.served import ServedModel
from service.repository.source import ModelSource
from service.repository.version import ModelVersion, RequestLease

PHASES = ("preflight", "load", "check", "warm_up", "swap", "drain")


class Observer:
    """What the repository reported, in order."""

    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []
        self.closed = threading.Event()
        self.done: Callable[[], None] = lambda: None

    def version_ready(self, version: ModelVersion) -> None:
        self.events.append(("ready", version.label))

    def version_current(self, version: ModelVersion) -> None:
        self.events.append(("current", version.label))

    def version_draining(self, version: ModelVersion) -> None:
        self.events.append(("draining", version.label))

    def version_closed(self, version: ModelVersion) -> None:
        self.events.append(("closed", version.label))
        self.closed.set()

    def reload_done(self, model: str, outcome: str, phases: dict[str, float]) -> None:
        self.events.append(("reload", model, outcome, tuple(phases)))
        self.done()


class House:
    """A repository with one model, on a loader that the test controls."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in ("config.yaml", "model_final.pth", "v2.pth"):
            (root / name).write_text("made up")
        self.source = ModelSource(root / "config.yaml", root / "model_final.pth")
        self.other = ModelSource(root / "config.yaml", root / "v2.pth")
        self.scheduler = Scheduler(
            max_batch_size=8, max_batch_pixels=10**9, max_wait_s=0, max_queue=10, model_threads=1,
            observer=Metrics(),
        )  # fmt: skip
        self.loader = FakeLoader()
        self.observer = Observer()
        self.house = SwapHouse(scheduler=self.scheduler, load=self.loader, observer=self.observer)
        self.repository = Repository(self.house)
        self.model: ServedModel = self.repository.add("shapes", self.source)
        self.first = self.loader.loaded[0]

    def start(
        self, model: ServedModel | None = None, source: ModelSource | None = None, **how: Any
    ) -> ReloadJob:
        served, wanted = model or self.model, Wanted(self.root, **how)
        return self.repository.start(
            served, "reload", lambda: files(served, source or self.other, wanted)
        )

    def reload(self, source: ModelSource | None = None, **how: Any) -> ReloadJob:
        job = self.start(source=source, **how)
        assert job.finished.wait(PATIENCE_S)
        return job

    def settle(self) -> None:
        self.scheduler.call(lambda: None).result(PATIENCE_S)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    yield made
    made.loader.go.set()
    made.scheduler.close()


def refused(job: ReloadJob) -> ApiError:
    assert job.state == "failed"
    assert job.error is not None
    return job.error


# --- serving ------------------------------------------------------------------------------------


def test_an_added_model_is_checked_and_serves_as_version_1(house: House) -> None:
    assert house.model.current.label == "1"
    assert house.first.batches
    assert house.observer.events == [("ready", "1"), ("current", "1")]


def test_a_model_is_found_by_its_name_and_the_first_without_one(house: House) -> None:
    second = house.repository.add("second", house.source)
    assert house.repository.get("second") is second
    assert house.repository.get() is house.model
    assert [model.name for model in house.repository] == ["shapes", "second"]
    assert len(house.repository) == 2


def test_an_unknown_model_is_404_with_the_names_that_there_are(house: House) -> None:
    with pytest.raises(NotFound) as caught:
        house.repository.get("car")
    assert caught.value.code == "unknown_model"
    assert caught.value.details == {"models": ["shapes"]}


def test_before_any_model_is_loaded_the_answer_is_503(house: House) -> None:
    empty = Repository(house.house)
    for name in (None, "shapes"):
        with pytest.raises(Unavailable):
            empty.get(name)


def test_a_model_that_cannot_be_loaded_is_not_added(house: House) -> None:
    house.loader.error = CheckpointError("No such file.")
    with pytest.raises(CheckpointError):
        house.repository.add("second", house.other)
    assert [model.name for model in house.repository] == ["shapes"]


# --- a reload that succeeds -----------------------------------------------------------------------


def test_a_reload_swaps_and_closes_the_old_detector_exactly_once(house: House) -> None:
    job = house.reload()
    second = house.loader.loaded[1]
    assert (job.state, job.phase, job.error) == ("succeeded", "done", None)
    assert (job.previous_version, job.version) == ("1", "2")
    assert job.freed_bytes == 1001
    assert job.load_report == {"missing": []}
    assert tuple(job.phases_s) == PHASES
    assert house.model.current.detector is second
    assert (house.first.closed, second.closed) == (1, 0)


def test_a_reload_is_reported_in_its_order(house: House) -> None:
    house.reload()
    assert house.observer.events[2:] == [
        ("ready", "2"),
        ("current", "2"),
        ("draining", "1"),
        ("closed", "1"),
        ("reload", "shapes", "swapped", PHASES),
    ]


def test_the_files_of_the_last_success_are_the_models_own(house: House) -> None:
    house.reload()
    assert house.loader.sources == [house.source, house.other]
    assert house.model.shelf.candidate("2").source == house.other


def test_version_numbers_go_up_and_failures_use_none_up(house: House) -> None:
    house.reload()
    house.loader.error = ModelError("No.")
    house.reload()
    house.loader.error = None
    house.reload()
    assert house.model.current.label == "3"


# --- a reload that fails --------------------------------------------------------------------------


def test_a_load_that_fails_keeps_the_old_version(house: House) -> None:
    house.loader.error = CheckpointError("3 classes, not 4.", classes=3)
    error = refused(house.reload())
    assert (error.status, error.code, error.message) == (422, "model_refused", "3 classes, not 4.")
    assert error.details == {"classes": 3}
    assert house.model.current.label == "1"
    assert house.first.closed == 0
    assert house.observer.events[2:] == [("reload", "shapes", "load_failed", PHASES[:2])]


def test_a_base_outside_of_the_root_is_403(house: House) -> None:
    house.loader.error = PathNotAllowedError("_BASE_ leaves the folder.")
    error = refused(house.reload())
    assert (error.status, error.code) == (403, "path_outside_root")


def test_an_unexpected_failure_says_nothing_of_its_cause_to_the_client(house: House) -> None:
    house.loader.error = RuntimeError("/srv/secret")
    error = refused(house.reload())
    assert (error.status, error.code) == (422, "model_refused")
    assert "secret" not in error.message


def test_a_detector_that_fails_its_check_is_refused_and_freed(house: House) -> None:
    broken = FakeDetector(2)
    broken.fail_on = set(range(256))
    house.loader.ready = [broken]
    error = refused(house.reload())
    house.settle()
    assert "self-check: RuntimeError" in error.message
    assert house.model.current.label == "1"
    assert (house.first.closed, broken.closed) == (0, 1)
    assert house.observer.events[2:] == [("reload", "shapes", "validation_failed", PHASES[:3])]


def _nan_scores(found: Instances) -> None:
    found.scores = torch.tensor([0.9, float("nan"), 0.1])


def _infinite_boxes(found: Instances) -> None:
    found.pred_boxes = Boxes(torch.full((3, 4), float("inf")))


@pytest.mark.parametrize("spoil", [_nan_scores, _infinite_boxes])
def test_a_detector_that_answers_not_finite_numbers_is_refused(house: House, spoil: Any) -> None:
    diverged = FakeDetector(2)

    def spoiled(answers: list[Instances]) -> list[Instances]:
        for found in answers:
            spoil(found)
        return answers

    diverged.answers = spoiled
    house.loader.ready = [diverged]
    assert "not finite" in refused(house.reload()).message
    house.settle()
    assert (house.model.current.label, diverged.closed) == ("1", 1)


def test_after_a_failure_the_next_reload_is_free_to_go(house: House) -> None:
    house.loader.error = ModelError("No.")
    house.reload()
    house.loader.error = None
    assert house.reload().state == "succeeded"


# --- concurrency, drain, jobs -----------------------------------------------------------------------


def test_a_second_reload_of_a_model_meanwhile_is_a_conflict(house: House) -> None:
    house.loader.go.clear()
    job = house.start()
    assert house.model.changing.locked()
    with pytest.raises(Conflict) as caught:
        house.start()
    assert caught.value.code == "reload_running"
    house.loader.go.set()
    assert job.finished.wait(PATIENCE_S)
    assert not house.model.changing.locked()


def test_models_reload_independently_of_each_other(house: House) -> None:
    second = house.repository.add("second", house.source)
    house.loader.go.clear()
    jobs = [house.start(model) for model in (house.model, second)]
    house.loader.go.set()
    assert all(job.finished.wait(PATIENCE_S) for job in jobs)
    assert {job.state for job in jobs} == {"succeeded"}


def test_who_hears_that_a_reload_is_done_may_begin_the_next(house: House) -> None:
    seen: list[tuple[str, bool]] = []
    house.loader.go.clear()
    job = house.start()
    house.observer.done = lambda: seen.append((job.state, house.model.changing.locked()))
    house.loader.go.set()
    assert job.finished.wait(PATIENCE_S)
    assert seen == [("running", False)]


def test_the_old_version_is_closed_only_when_its_last_request_has_ended(house: House) -> None:
    old, lease = house.model.current, RequestLease()
    lease.bind(old)
    ready = threading.Event()
    wait_unused = old.wait_unused

    def waiting(timeout: float | None) -> bool:
        ready.set()
        return wait_unused(timeout)

    old.wait_unused = waiting  # type: ignore[method-assign]  # tells when the drain begins
    job = house.start()
    assert ready.wait(PATIENCE_S)
    assert (job.phase, job.version, house.first.closed) == ("drain", "2", 0)
    lease.end()
    assert job.finished.wait(PATIENCE_S)
    assert house.first.closed == 1


def test_a_drain_that_takes_too_long_warns_and_frees_the_version_when_it_can(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retiring, "DRAIN_TIMEOUT_S", 0.01)
    lease = RequestLease()
    lease.bind(house.model.current)
    job = house.reload()
    assert job.state == "succeeded"
    assert job.warning is not None
    assert job.freed_bytes is None
    assert house.first.closed == 0
    lease.end()
    assert house.observer.closed.wait(PATIENCE_S)
    assert house.first.closed == 1


def test_a_reload_while_the_server_stops_fails_as_unavailable(house: House) -> None:
    house.scheduler.close()
    assert refused(house.reload()).status == 503


def test_a_job_is_found_by_its_id(house: House) -> None:
    job = house.reload()
    assert house.repository.jobs.get(job.id) is job


def test_an_unknown_job_is_404(house: House) -> None:
    with pytest.raises(NotFound) as caught:
        house.repository.jobs.get("nope")
    assert caught.value.code == "unknown_reload"


def test_only_the_last_jobs_are_kept(house: House) -> None:
    house.loader.error = ModelError("No.")
    jobs = [house.reload() for _ in range(KEPT_JOBS + 1)]
    with pytest.raises(NotFound):
        house.repository.jobs.get(jobs[0].id)
    assert house.repository.jobs.get(jobs[1].id) is jobs[1]

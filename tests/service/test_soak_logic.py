"""The soak of ``make soak`` on a fake detector: nothing goes wrong, and what does is found."""

import gc
import weakref
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from fake_detector import FakeDetector, picture
from fake_repository import FolderLoader, make_version
from fake_server import Serve, Served
from soaking.learning import NotFit, learn_versions
from soaking.report import failures, figures
from soaking.run import MOST_PROBLEMS, Picture, Plan, Soak

from service.repository.source import ModelSource
from service.repository.version import ModelVersion

pytestmark = pytest.mark.anyio

MODEL, LABELS = "shapes", ("1", "2")
NUMBERS = {"1": 1, "2": 41}  # of the detectors: boxes 5 pixels apart
SIZES = ((32, 32), (40, 64), (64, 32))
PICTURES = [
    Picture(f"{mark}.png", picture(mark, SIZES[mark % 3]), "image/png") for mark in range(8)
]
PLAN = Plan(requests=2000, swaps=50, concurrency=12, between=4, rest_every=10)
SMALL = Plan(requests=60, swaps=3, concurrency=4, between=4, rest_every=2)


@pytest.fixture
def served(serve: Serve, tmp_path: Path) -> Served:
    """A server of a repository with two versions."""
    return serve_versions(serve, tmp_path, FolderLoader())


def serve_versions(serve: Serve, root: Path, loader: FolderLoader) -> Served:
    for label in LABELS:
        make_version(root, label, number=NUMBERS[label])
    return serve(loader=loader, repository=root)


async def soak(
    served: Served,
    plan: Plan,
    at_rest: Callable[[int], Awaitable[None]] | None = None,
    loaded: Callable[[], None] = lambda: None,
) -> Soak:
    """A soak that has ended; ``loaded`` is called before the load begins."""
    versions = await learn_versions(served.client, MODEL, LABELS, PICTURES)
    loaded()

    async def look_away(swaps: int) -> None:
        """Nothing is to be seen at this rest."""

    work = Soak(
        served.client,
        model=MODEL,
        pictures=PICTURES,
        versions=versions,
        current=served.runtime.repository.get().current.label,
        plan=plan,
        at_rest=at_rest or look_away,
    )
    await work.run()
    return work


async def test_thousands_of_requests_survive_swaps_and_rollbacks_and_nothing_is_left_behind(
    served: Served,
) -> None:
    rests: list[int] = []
    series: set[int] = set()
    seen: list[weakref.ref[ModelVersion]] = []

    async def at_rest(swaps: int) -> None:
        assert served.runtime.scheduler.depth == 0
        assert [detector.closed for detector in served.loader.loaded].count(0) == 1
        rests.append(swaps)
        families = served.runtime.metrics.registry.collect()
        series.add(sum(len(family.samples) for family in families))
        seen.append(weakref.ref(served.runtime.repository.get().current))

    work = await soak(served, PLAN, at_rest)

    tally = work.tally
    assert tally.problems == []
    assert len(tally.asked) >= PLAN.requests
    assert len(tally.under_load) == PLAN.swaps
    assert {swap.action for swap in tally.under_load} == {"reload", "rollback"}
    assert {one.version for one in tally.asked} == {*LABELS}
    assert {one.images for one in tally.asked} == {1, 2, 3}
    assert any(one.during_swap for one in tally.asked)
    # At rest the server had as many series as ever, and what it served before is gone.
    assert rests == [10, 20, 30, 40, 50]
    assert len(series) == 1
    gc.collect()
    assert [one() is not None for one in seen] == [False, False, False, False, True]
    found = figures(tally, [], 1.0)
    assert found["swaps"]["under_load"]["number"] == PLAN.swaps
    assert found["swaps"]["at_rest"]["number"] == len(rests)
    assert sum(found["answers_by_version"].values()) == found["requests"] == len(tally.asked)


async def test_a_version_that_answers_as_another_is_found(serve: Serve, tmp_path: Path) -> None:
    class Confused(FolderLoader):
        """Loads the other version's number, once told."""

        told = False

        def __call__(self, source: ModelSource) -> FakeDetector:
            detector = super().__call__(source)
            if self.told:
                detector.number = sum(NUMBERS.values()) - detector.number
            return detector

    loader = Confused()
    served = serve_versions(serve, tmp_path, loader)

    work = await soak(served, SMALL, loaded=lambda: setattr(loader, "told", True))

    assert {problem.kind for problem in work.tally.problems} >= {"misnamed"}
    assert failures(work.tally, SMALL, [])


async def test_requests_that_fail_are_counted_and_end_the_soak(served: Served) -> None:
    def break_down() -> None:
        for detector in served.loader.loaded:
            detector.fail_on = set(range(256))

    work = await soak(served, Plan(requests=10_000, swaps=0, concurrency=4), loaded=break_down)

    assert MOST_PROBLEMS <= len(work.tally.problems) < MOST_PROBLEMS + 4
    assert set(work.tally.kinds) == {"refused"}


async def test_a_swap_that_fails_is_counted_and_the_old_version_is_expected(
    served: Served,
) -> None:
    def take_away() -> None:
        served.loader.error = RuntimeError("the disk is gone")

    work = await soak(served, SMALL, loaded=take_away)

    assert set(work.tally.kinds) == {"swap"}
    assert {one.version for one in work.tally.asked} == {"2"}


async def test_a_soak_that_is_stopped_ends_soon_with_what_it_has(served: Served) -> None:
    async def at_rest(swaps: int) -> None:
        work.stop()

    versions = await learn_versions(served.client, MODEL, LABELS, PICTURES)
    work = Soak(
        served.client, model=MODEL, pictures=PICTURES, versions=versions, current="2",
        plan=PLAN, at_rest=at_rest,
    )  # fmt: skip
    await work.run()

    assert work.interrupted
    assert len(work.tally.under_load) == PLAN.rest_every
    assert work.tally.problems == []


async def test_versions_that_answer_alike_cannot_be_soaked(serve: Serve, tmp_path: Path) -> None:
    for label in LABELS:
        make_version(tmp_path, label, number=1)
    served = serve(loader=FolderLoader(), repository=tmp_path)

    with pytest.raises(NotFit, match="alike"):
        await learn_versions(served.client, MODEL, LABELS, PICTURES)

"""Offers requests and swaps together, and checks every answer against the version that it names.

Requests go on until both counts are reached. Every few swaps the load rests for a moment: the requests
on their way end, one more swap gives free memory back to the system, and whoever runs the soak may
look at the server.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from random import Random
from time import perf_counter
from typing import Any

import httpx

from soaking.answers import Kind, Problem, Versions, check_answer

MOST_PROBLEMS = 100
"""After so many the soak gives up: the server is gone, or nothing is as it should be."""


@dataclass(frozen=True)
class Picture:
    """An encoded image to send."""

    name: str
    data: bytes
    media_type: str = "image/jpeg"


@dataclass(frozen=True)
class Plan:
    """How much of what.

    Attributes:
        requests, swaps: at least so many.
        concurrency: requests on their way.
        between: answers at least between two swaps.
        rest_every: swaps between two rests; there is one after the last too.
        rollback_every: of so many swaps one is a rollback.
        most_images: in a request.
        seed: of the choice of pictures.
    """

    requests: int = 10_000
    swaps: int = 200
    concurrency: int = 32
    between: int = 16
    rest_every: int = 10
    rollback_every: int = 7
    most_images: int = 3
    seed: int = 0


@dataclass(frozen=True)
class Asked:
    """A request that was answered: its images, by which version (None: by an error), its seconds, and
    whether a swap was under way at any time meanwhile."""

    images: int
    version: str | None
    seconds: float
    during_swap: bool


@dataclass(frozen=True)
class Swapped:
    """A swap that succeeded: how it was asked for, to which version, whether under load or at rest, its
    seconds as the client sees them, and those of its phases."""

    action: str
    version: str
    at_rest: bool
    seconds: float
    phases_s: dict[str, float]


@dataclass
class Tally:
    """What came of it."""

    asked: list[Asked] = field(default_factory=list)
    swapped: list[Swapped] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    @property
    def kinds(self) -> Counter[Kind]:
        """Problems by their kinds."""
        return Counter(problem.kind for problem in self.problems)

    @property
    def under_load(self) -> list[Swapped]:
        """The swaps that count: those at rest do not."""
        return [swap for swap in self.swapped if not swap.at_rest]


class Soak:
    """One soak of one server.

    Args:
        client: of the server; requests go to its base URL.
        model: the name of the model.
        pictures: what is sent.
        versions: what each of two versions answers to each of them.
        current: the one that is current.
        plan: how much of what.
        at_rest: is awaited at every rest, with the number of swaps under load so far.
        progress: is told the answers and the swaps under load so far.
    """

    def __init__(
        self,
        client: httpx.AsyncClient,
        *,
        model: str,
        pictures: Sequence[Picture],
        versions: Versions,
        current: str,
        plan: Plan,
        at_rest: Callable[[int], Awaitable[None]],
        progress: Callable[[int, int], None] = lambda requests, swaps: None,
    ) -> None:
        self.tally = Tally()
        self.interrupted = False
        self._client = client
        self._model = model
        self._pictures = list(pictures)
        self._versions = versions
        self._plan = plan
        self._at_rest = at_rest
        self._progress = progress
        # What is current after so many swaps; the last may be under way.
        self._history = [current]
        self._swaps_done = 0
        self._swaps_under_load = 0
        self._on_way = 0
        self._open = asyncio.Event()
        self._open.set()
        self._changed = asyncio.Event()

    async def run(self) -> Tally:
        """Soak until both counts are reached, :meth:`stop` is called, or too much goes wrong."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._operate())
            for number in range(self._plan.concurrency):
                tasks.create_task(self._ask_on(number))
        return self.tally

    def stop(self) -> None:
        """End after what is under way."""
        self.interrupted = True
        self._changed.set()

    @property
    def _ends(self) -> bool:
        return self.interrupted or len(self.tally.problems) >= MOST_PROBLEMS

    @property
    def _is_enough(self) -> bool:
        tally, plan = self.tally, self._plan
        return self._swaps_under_load >= plan.swaps and len(tally.asked) >= plan.requests

    # --- requests ---------------------------------------------------------------------------------

    async def _ask_on(self, number: int) -> None:
        """Be one client, until the end."""
        choices = self._choices(Random(f"{self._plan.seed}-{number}"))
        while not self._ends and not self._is_enough:
            if not self._open.is_set():
                await self._open.wait()
                continue
            self._on_way += 1
            try:
                await self._ask(next(choices))
            finally:
                self._on_way -= 1
                self._changed.set()

    def _choices(self, random: Random) -> Iterator[list[Picture]]:
        """What to send: one picture or a few, no picture twice; a request of few is the more likely."""
        numbers = range(1, self._plan.most_images + 1)
        weights = [1 / number for number in numbers]
        while True:
            [number] = random.choices(numbers, weights)
            yield random.sample(self._pictures, number)

    async def _ask(self, pictures: list[Picture]) -> None:
        names = [picture.name for picture in pictures]
        sent_at, first = perf_counter(), self._swaps_done
        version: str | None = None
        problem: Problem | None
        try:
            response = await self._client.post("/predict", **_body(pictures))
            seconds = perf_counter() - sent_at
            if response.status_code == 200:
                answer = response.json()
                version = answer["model"]["version"]
                problem = check_answer(answer, names, self._versions, set(self._history[first:]))
            else:
                problem = Problem("refused", f"{response.status_code}: {response.text[:300]}")
        except httpx.HTTPError as error:
            seconds = perf_counter() - sent_at
            problem = Problem("refused", f"{type(error).__name__}: {error}")
        except (ValueError, KeyError) as error:
            problem = Problem("incomplete", f"no answer as documented: {error!r:.300}")
        during_swap = len(self._history) > first + 1
        self.tally.asked.append(Asked(len(pictures), version, seconds, during_swap))
        if problem is not None:
            self.tally.problems.append(problem)
        self._progress(len(self.tally.asked), self._swaps_under_load)

    # --- swaps ------------------------------------------------------------------------------------

    async def _operate(self) -> None:
        """Swap to and fro, spread evenly over the requests; rest now and then."""
        plan = self._plan
        try:
            for number in range(1, plan.swaps + 1):
                fair_share = plan.requests * (number - 1) // plan.swaps
                await self._until(max(fair_share, len(self.tally.asked) + plan.between))
                if self._ends:
                    return
                rolls_back = number % plan.rollback_every == 0
                await self._swap("rollback" if rolls_back else "reload", at_rest=False)
                self._swaps_under_load = number
                self._progress(len(self.tally.asked), self._swaps_under_load)
                if number % plan.rest_every == 0 or number == plan.swaps:
                    await self._rest()
        finally:
            self._open.set()

    async def _until(self, answers: int) -> None:
        """Wait for so many answers in all, or the end."""
        while len(self.tally.asked) < answers and not self._ends:
            self._changed.clear()
            await self._changed.wait()

    async def _rest(self) -> None:
        """Let requests end, swap once more without load, and let the server be looked at."""
        self._open.clear()
        while self._on_way:
            self._changed.clear()
            await self._changed.wait()
        if not self._ends and await self._swap("reload", at_rest=True):
            await self._at_rest(self._swaps_under_load)
        self._open.set()

    async def _swap(self, action: str, *, at_rest: bool) -> bool:
        """Make the other version current; whether that succeeded."""
        now = self._history[-1]
        target = next(label for label in self._versions if label != now)
        self._history.append(target)
        path, body = "/reload", {"model": self._model, "version": target}
        if action == "rollback":
            path, body = f"/models/{self._model}/rollback", {"current": now}
        started = perf_counter()
        failure: str | None = None
        done: dict[str, Any] = {}
        try:
            response = await self._client.post(path, json=body)
            done = response.json()
            if response.status_code != 200:
                failure = f"{response.status_code}: {response.text[:300]}"
            elif done["version"] != target or done["warning"] is not None:
                failure = f"version {done['version']} instead of {target}: {done['warning']}"
        except (httpx.HTTPError, ValueError, KeyError) as error:
            failure = f"{type(error).__name__}: {error}"
        if failure is None:
            seconds = perf_counter() - started
            self.tally.swapped.append(Swapped(action, target, at_rest, seconds, done["phases_s"]))
        else:
            self._history[-1] = now
            self.tally.problems.append(Problem("swap", f"{action} to {target}: {failure}"))
        self._swaps_done += 1
        return failure is None


def _body(pictures: Sequence[Picture]) -> dict[str, Any]:
    """One picture as it is, several as a form."""
    if len(pictures) == 1:
        [picture] = pictures
        return {"content": picture.data, "headers": {"Content-Type": picture.media_type}}
    return {"files": [("images", (one.name, one.data, one.media_type)) for one in pictures]}

"""From the options of the command line to a plan and its targets; each check names its option."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar, get_args
from urllib.parse import urlsplit

from service.bench.errors import WrongUsage
from service.bench.level import Arrivals, Level, Plan
from service.bench.process_usage import process_usage
from service.bench.target import BodyKind, Target

T = TypeVar("T")

DEFAULT_CONCURRENCY = "1,2,4,8"
DEFAULT_DURATION_S = 10.0
ROUNDS_TO_COMPARE = 3
DEFAULT_SIZES = "640x480"
MOST_PIXELS = 50_000_000


@dataclass(frozen=True)
class BenchOptions:
    """What was given on the command line; lists are empty and values None where nothing was."""

    urls: Sequence[str] = ()
    config: Path | None = None
    zoo: str | None = None
    weights: Path | None = None
    server_options: Sequence[str] = ()
    concurrency: str | None = None
    rate: str | None = None
    arrivals: str = "poisson"
    max_outstanding: int = 1000
    duration_s: float | None = None
    requests: int | None = None
    warmup_s: float = 2.0
    rounds: int | None = None
    timeout_s: float = 60.0
    images: Sequence[Path] = ()
    sizes: str | None = None
    options: Sequence[str] = ()
    bodies: Sequence[str] = ()
    paths: Sequence[str] = ()
    fields: Sequence[str] = ()
    headers: Sequence[str] = ()
    names: Sequence[str] = ()
    pids: Sequence[int] = ()
    seed: int = 0
    json: Path | None = None
    svg: Path | None = None

    @property
    def has_own_server(self) -> bool:
        """Whether a server of our own is one of the targets: if a model, or no server, is named."""
        named = (self.config, self.zoo, self.weights)
        return not self.urls or any(value is not None for value in named)

    @property
    def number_of_targets(self) -> int:
        """Servers to measure, ours included."""
        return len(self.urls) + self.has_own_server


def parse_plan(given: BenchOptions) -> Plan:
    """The levels and how each is run.

    Raises:
        WrongUsage: an option does not say what it should.
    """
    if given.arrivals not in get_args(Arrivals):
        raise WrongUsage(f"--arrivals is poisson or uniform, not {given.arrivals}.")
    if given.duration_s is not None and given.requests is not None:
        raise WrongUsage("--duration and --requests exclude each other.")
    closed, open_ = given.concurrency, given.rate
    if closed is None and open_ is None:
        closed = DEFAULT_CONCURRENCY
    levels = [Level("closed", value) for value in _numbers(closed, "--concurrency", whole=True)]
    levels += [Level("open", value) for value in _numbers(open_, "--rate", whole=False)]
    rounds = ROUNDS_TO_COMPARE if given.number_of_targets > 1 else 1
    return Plan(
        levels=tuple(dict.fromkeys(levels)),
        warmup_s=given.warmup_s,
        duration_s=given.duration_s or DEFAULT_DURATION_S,
        requests=given.requests,
        rounds=given.rounds or rounds,
        timeout_s=given.timeout_s,
        max_outstanding=given.max_outstanding,
        arrivals="uniform" if given.arrivals == "uniform" else "poisson",
        seed=given.seed,
    )


def parse_targets(given: BenchOptions, urls: Sequence[str], own_pid: int | None) -> list[Target]:
    """The targets at ``urls``; the last is our own server if there is an ``own_pid``.

    Raises:
        WrongUsage: there are more than two, or an option does not fit their number.
    """
    number = len(urls)
    if number > 2:
        raise WrongUsage(f"{number} servers are too many: one is measured, or two are compared.")
    names = _for_each(given.names, number, "--name")
    paths = _for_each(given.paths, number, "--path")
    bodies = _for_each(given.bodies, number, "--body")
    fields = _for_each(given.fields, number, "--field")
    pids: list[int | None] = list(given.pids)
    if pids and len(pids) != len(given.urls):
        raise WrongUsage(
            "--pid is given once for each URL; the server that is started has its own."
        )
    unknown = [str(pid) for pid in given.pids if process_usage(pid) is None]
    if unknown:
        raise WrongUsage(f"--pid: there is no process {', '.join(unknown)} on this machine.")
    if own_pid is not None:
        pids = [*(pids or itertools.repeat(None, number - 1)), own_pid]
    if len(set(given.names)) < len(given.names):
        raise WrongUsage("--name: two servers of one name cannot be told apart.")
    options = tuple(_pair(option, "=", "--option") for option in given.options)
    headers = tuple(_pair(header, ":", "--header") for header in given.headers)
    return [
        Target(
            name=names[index] if names else _name(urls, index, own_pid is not None),
            url=url,
            path="/" + paths[index].lstrip("/") if paths else "/predict",
            body=_body_kind(bodies[index]) if bodies else "multipart",
            field=fields[index] if fields else "",
            options=options,
            headers=headers,
            pid=pids[index] if pids else None,
        )
        for index, url in enumerate(urls)
    ]


def parse_sizes(text: str) -> list[tuple[int, int]]:
    """``640x480,1920x1080`` as (width, height).

    Raises:
        WrongUsage: it is something else, or too large to be made up.
    """
    sizes = []
    for part in text.split(","):
        width, _, height = part.strip().lower().partition("x")
        if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
            raise WrongUsage(f"--sizes is a list such as {DEFAULT_SIZES},1920x1080, not {text}.")
        if int(width) * int(height) > MOST_PIXELS:
            raise WrongUsage(f"--sizes: {part.strip()} has more than {MOST_PIXELS} pixels.")
        sizes.append((int(width), int(height)))
    return sizes


def server_arguments(given: BenchOptions) -> list[str]:
    """The arguments of ``detserve serve`` for the server that is started."""
    arguments = []
    for flag, value in (
        ("--config", given.config),
        ("--zoo", given.zoo),
        ("--weights", given.weights),
    ):
        if value is not None:
            arguments += [flag, str(value)]
    for option in given.server_options:
        name, value = _pair(option, "=", "--server-option")
        arguments.append(f"--{name.replace('_', '-')}={value}")
    return arguments


def _numbers(text: str | None, option: str, *, whole: bool) -> list[float]:
    found = []
    for part in text.split(",") if text is not None else ():
        try:
            value = float(part)
        except ValueError:
            value = 0.0
        if not 0 < value <= 100_000 or (whole and value != int(value)):
            kind = "whole numbers" if whole else "numbers"
            raise WrongUsage(f"{option} is a list of {kind} above 0, such as 1,2,4, not {text}.")
        found.append(value)
    return found


def _for_each(values: Sequence[T], number: int, option: str) -> list[T]:
    """One of ``values`` for each target; a single one is for all."""
    if len(values) > number:
        raise WrongUsage(f"{option} is given {len(values)} times for {number} servers.")
    return list(values) * number if len(values) == 1 else list(values)


def _pair(text: str, separator: str, option: str) -> tuple[str, str]:
    name, found, value = text.partition(separator)
    if not found or not name.strip():
        raise WrongUsage(f"{option} is NAME{separator}VALUE, not {text!r}.")
    return name.strip(), value.strip()


def _body_kind(text: str) -> BodyKind:
    for kind in get_args(BodyKind):
        if text == kind:
            found: BodyKind = kind
            return found
    raise WrongUsage(f"--body is raw, multipart or json, not {text}.")


def _name(urls: Sequence[str], index: int, last_is_ours: bool) -> str:
    """Of a target without a name: where it is, or what it is if that says more."""
    if last_is_ours and index == len(urls) - 1:
        return "detserve"
    if len(urls) == 2 and urls[0] == urls[1]:
        return f"{urlsplit(urls[index]).netloc} ({'AB'[index]})"
    return urlsplit(urls[index]).netloc

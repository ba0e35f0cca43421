"""Runs a benchmark for the command line: servers, progress, Ctrl-C, tables and files."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from service.bench.campaign import Result, run_campaign
from service.bench.caveats import caveats_of
from service.bench.errors import BenchError, WrongUsage
from service.bench.images import BenchImage, load_images, synthetic_images
from service.bench.level import Plan
from service.bench.own_server import own_server
from service.bench.parsing import (
    DEFAULT_SIZES,
    BenchOptions,
    parse_plan,
    parse_sizes,
    parse_targets,
    server_arguments,
)
from service.bench.plot import latency_throughput_svg
from service.bench.report import print_report
from service.bench.result_document import result_document
from service.bench.target import Target

FAILED, WRONG_USAGE, INTERRUPTED = 1, 2, 130

# What comes with the embedded model, so that a first try measures something to be found.
_SAMPLES = Path(__file__).parents[2] / "models" / "pretrained" / "shapes" / "samples"


def run(given: BenchOptions) -> int:
    """Run the benchmark and print the result; the exit code.

    0: done. 1: a server is not there, not ready or answered nothing well. 2: wrong usage.
    130: interrupted; what was measured is shown all the same.
    """
    problems = Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        with _on_signals(signal.default_int_handler):
            return _run(given, problems)
    except BenchError as error:
        problems.print("[red]error:[/] ", end="")
        problems.print(str(error), markup=False)
        return WRONG_USAGE if isinstance(error, WrongUsage) else FAILED
    except KeyboardInterrupt:
        problems.print("Interrupted.")
        return INTERRUPTED


def _run(given: BenchOptions, problems: Console) -> int:
    plan = parse_plan(given)
    # All that can be wrong with the options comes before a model is loaded.
    placeholders = [*given.urls, *(["http://127.0.0.1:1"] if given.has_own_server else [])]
    parse_targets(given, placeholders, 0 if given.has_own_server else None)
    if given.server_options and not given.has_own_server:
        raise WrongUsage("--server-option is for a server of our own; give it a model, not a URL.")
    for option, file in (("--json", given.json), ("--svg", given.svg)):
        if file is not None and not file.absolute().parent.is_dir():
            raise WrongUsage(f"{option}: there is no folder {file.absolute().parent}.")
    images = _images(given)
    with ExitStack() as stack:
        urls, pid = list(given.urls), None
        if given.has_own_server:
            with problems.status("Starting a server ..."):
                server = stack.enter_context(own_server(server_arguments(given)))
            urls.append(server.url)
            pid = server.pid
        targets = parse_targets(given, urls, pid)
        result, loop = _measure(targets, images, plan, problems)
    warnings = caveats_of(result)
    wide = Console(highlight=False, soft_wrap=True)
    print_report(result, warnings, wide)
    if given.json is not None:
        text = json.dumps(result_document(result, warnings, loop), indent=2) + "\n"
        _write(given.json, text, "--json")
    if given.svg is not None:
        _write(given.svg, latency_throughput_svg(result), "--svg")
    if result.interrupted:
        return INTERRUPTED
    if result.first_error is not None:
        raise BenchError(f"No request was answered well. {result.first_error}")
    return 0


def _images(given: BenchOptions) -> list[BenchImage]:
    """Files, made-up ones, or what comes with the embedded model if that is what is measured."""
    if given.images and given.sizes is not None:
        raise WrongUsage("--images and --sizes exclude each other.")
    if given.images:
        return load_images(given.images)
    embedded = not given.urls and given.config is None and given.weights is None
    if given.sizes is None and embedded:
        return load_images([_SAMPLES])
    return synthetic_images(parse_sizes(given.sizes or DEFAULT_SIZES), seed=given.seed)


def _measure(
    targets: Sequence[Target], images: Sequence[BenchImage], plan: Plan, problems: Console
) -> tuple[Result, type[asyncio.AbstractEventLoop]]:
    """Run the campaign on the fastest event loop that there is; the first Ctrl-C ends it gently."""

    async def campaign(progress: Callable[[str, float], None]) -> Result:
        stop = asyncio.Event()
        this = asyncio.current_task()
        loop = asyncio.get_running_loop()

        def interrupt() -> None:
            if stop.is_set() and this is not None:
                this.cancel()
            stop.set()

        with _on_signals(lambda number, frame: loop.call_soon_threadsafe(interrupt)):
            return await run_campaign(targets, images, plan, stop=stop, progress=progress)

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn())
    # Seldom: each refresh is work of this process, beside the load.
    with (
        Progress(*columns, console=problems, transient=True, refresh_per_second=2) as bar,
        asyncio.Runner(loop_factory=_loop_factory()) as runner,
    ):
        task = bar.add_task("", total=1.0)
        try:
            result = runner.run(
                campaign(lambda text, part: bar.update(task, description=text, completed=part))
            )
        except asyncio.CancelledError:
            raise KeyboardInterrupt from None
        return result, type(runner.get_loop())


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        import uvloop
    except ImportError:  # Windows
        return asyncio.new_event_loop
    return uvloop.new_event_loop


@contextmanager
def _on_signals(handler: Callable[[int, FrameType | None], object]) -> Iterator[None]:
    """Have ``handler`` called on Ctrl-C and SIGTERM, so that a server of ours does not outlive us."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, handler) for number in numbers]
    try:
        yield
    finally:
        for number, old in zip(numbers, before, strict=True):
            signal.signal(number, old)


def _write(file: Path, text: str, option: str) -> None:
    try:
        file.write_text(text)
    except OSError as error:
        raise BenchError(f"{option}: {file} cannot be written: {error.strerror}.") from None

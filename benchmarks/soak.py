"""Swaps under load, for long: does every answer come from the version that it names, and does memory
stay?

    python benchmarks/soak.py [--requests 10000 --swaps 200] [flags of detserve serve]

A server of our own serves two versions of the embedded shapes model whose boxes differ by pixels.
Clients ask it for pictures, one or several at a time, while it swaps to and fro, by reload and now and
then by rollback. An answer must be 200, agree with the version that it names in every picture, and
with no other, and that version must have been current in its time. Every tenth swap the load rests,
one more swap gives free memory back to the system, and the memory of the process and of its device is
read: from the tenth swap to the last it may change by 2 %. Any failure makes the exit code 1; Ctrl-C
ends the soak early, with 130 and without a result on disk.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from time import perf_counter

import httpx
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

REPOSITORY = Path(__file__).parent.parent
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "benchmarks" / "servers")]

from reporting import machine, versions, write_result  # noqa: E402  # see the path above
from soaking.learning import NotFit, learn_versions  # noqa: E402  # likewise
from soaking.memory import Reading, read_memory  # noqa: E402  # likewise
from soaking.report import failures, figures, table  # noqa: E402  # likewise
from soaking.run import Plan, Soak, Tally  # noqa: E402  # likewise
from soaking.two_versions import LABELS, MODEL, load_pictures, make_repository  # noqa: E402  # likewise

from service.bench.errors import BenchError  # noqa: E402  # likewise
from service.bench.own_server import OwnServer, own_server  # noqa: E402  # likewise

PICTURES = REPOSITORY / "tests" / "data" / "shapes" / "val"
NUMBER_OF_PICTURES = 16
TIMEOUT_S = 120.0
# The server closes idle connections after 5 s; one that is about to be closed is not used again.
KEEP_IDLE_S = 2.0
INTERRUPTED = 130

console = Console()


async def soak(server: OwnServer, plan: Plan, readings: list[Reading]) -> tuple[Tally, bool]:
    """Soak ``server``: what came of it, and whether Ctrl-C ended it. Appends to ``readings``."""
    pictures = load_pictures(PICTURES, NUMBER_OF_PICTURES)
    limits = httpx.Limits(
        max_connections=None, max_keepalive_connections=None, keepalive_expiry=KEEP_IDLE_S
    )
    async with httpx.AsyncClient(
        base_url=server.url, timeout=TIMEOUT_S, limits=limits, trust_env=False
    ) as client:
        with console.status("Asking both versions for all pictures ..."):
            known = await learn_versions(client, MODEL, LABELS, pictures)
        current = (await client.get(f"/models/{MODEL}")).json()["version"]

        async def at_rest(swaps: int) -> None:
            metrics = (await client.get("/metrics")).text
            readings.append(read_memory(server.pid, swaps, metrics))

        with Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
        ) as bars:
            of_requests = bars.add_task("requests", total=plan.requests)
            of_swaps = bars.add_task("swaps", total=plan.swaps)

            def progress(requests: int, swaps: int) -> None:
                bars.update(of_requests, completed=min(requests, plan.requests))
                bars.update(of_swaps, completed=swaps)

            work = Soak(
                client,
                model=MODEL,
                pictures=pictures,
                versions=known,
                current=current,
                plan=plan,
                at_rest=at_rest,
                progress=progress,
            )
            loop = asyncio.get_running_loop()

            def stop() -> None:
                work.stop()
                loop.remove_signal_handler(signal.SIGINT)  # a second Ctrl-C ends it at once

            loop.add_signal_handler(signal.SIGINT, stop)
            tally = await work.run()
    return tally, work.interrupted


def main(arguments: Sequence[str] | None = None) -> int:
    """Soak, print the table and write the result; the exit code."""
    plan = Plan()
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], epilog="Other flags go to detserve serve."
    )
    for name, text in (
        ("requests", "requests at least"),
        ("swaps", "swaps under load"),
        ("concurrency", "requests on their way"),
        ("rest-every", "swaps between two looks at the memory"),
    ):
        default = getattr(plan, name.replace("-", "_"))
        parser.add_argument(f"--{name}", type=_at_least_one, default=default, help=text)
    parser.add_argument(
        "--out", type=Path, default=REPOSITORY / "benchmarks" / "results" / "soak.json"
    )
    given, of_server = parser.parse_known_args(arguments)
    plan = Plan(
        requests=given.requests,
        swaps=given.swaps,
        concurrency=given.concurrency,
        rest_every=given.rest_every,
    )
    readings: list[Reading] = []
    with tempfile.TemporaryDirectory(prefix="detserve-soak-") as folder:
        make_repository(Path(folder))
        try:
            with own_server(["--repository", folder, *of_server]) as server:
                started = perf_counter()
                tally, interrupted = asyncio.run(soak(server, plan, readings))
                seconds = perf_counter() - started
        except (BenchError, NotFit) as error:
            console.print(f"[red]error:[/] {error}")
            return 1
        except KeyboardInterrupt:  # before the load began
            return INTERRUPTED
    found = figures(tally, readings, seconds)
    failed = failures(tally, plan, readings) if not interrupted else []
    verdict = "interrupted" if interrupted else "failed" if failed else "passed"
    console.print(table(found, verdict, failed))
    for problem in found["problems"]["first"]:
        console.print(problem, markup=False, highlight=False)
    if interrupted:
        return INTERRUPTED
    document = {
        "what": "Swaps between two versions of the shapes model under load, every answer checked",
        "machine": machine(),
        "versions": versions(),
        "server": of_server,
        "plan": asdict(plan),
        "passed": not failed,
        "failures": failed,
    }
    write_result(given.out, document | found)
    return 1 if failed else 0


def _at_least_one(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not at least 1")
    return number


if __name__ == "__main__":
    sys.exit(main())

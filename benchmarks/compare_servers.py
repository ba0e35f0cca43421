"""Compares detserve with a plain FastAPI service and with LitServe, in turns, in one run.

    python benchmarks/compare_servers.py --detector no_op
    python benchmarks/compare_servers.py --detector mask_rcnn

With ``no_op`` the detector answers three fixed boxes at once, so what is measured is the service:
connections, bodies, a JPEG of 32x32 pixels that is padded to 200 kB (each server opens it), queue and
threads, JSON. With ``mask_rcnn`` the two others run torchvision's eager Mask R-CNN R50-FPN, and detserve
its own of the same size with weights of the same kind; all find about 100 objects in a picture.

Each server has the first core (with ``mask_rcnn`` all of them) and the client the last one. Beside
requests per second, which other work on the machine disturbs, stand requests per second of CPU time of
the server's processes: on a quiet machine and a busy core they are the same.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parent.parent
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "benchmarks" / "servers")]

import uvloop  # noqa: E402  # see the path above
from pictures import padded_jpeg  # noqa: E402  # likewise
from reporting import machine, versions, write_result  # noqa: E402  # likewise
from rich.console import Console  # noqa: E402  # likewise
from rich.progress import track  # noqa: E402  # likewise
from rich.table import Table  # noqa: E402  # likewise
from running import Program, Running, running  # noqa: E402  # likewise

from service.bench.connection import Connections  # noqa: E402  # likewise
from service.bench.images import BenchImage, synthetic_images  # noqa: E402  # likewise
from service.bench.load import ClosedLoop  # noqa: E402  # likewise
from service.bench.recording import Recording  # noqa: E402  # likewise
from service.bench.target import BodyKind, Target  # noqa: E402  # likewise

PADDED_BYTES = 200_000
IDLE_S = 10.0


@dataclass(frozen=True)
class Case:
    """One server asked in one way."""

    server: str
    body: BodyKind
    concurrency: int

    @property
    def name(self) -> str:
        return f"{self.server}, {self.body}, {self.concurrency} at a time"


@dataclass(frozen=True)
class Measured:
    """One turn of a case.

    Attributes:
        requests_per_s: by the clock.
        requests_per_cpu_s: by CPU time of the server and its children.
        p50_ms, p99_ms: latency.
        cores: CPU seconds of the server per second.
        peak_mb: the most memory that its processes have had.
    """

    requests_per_s: float
    requests_per_cpu_s: float
    p50_ms: float
    p99_ms: float
    cores: float
    peak_mb: float


async def offer(server: Running, case: Case, image: BenchImage, seconds: float) -> Measured:
    """Ask for ``seconds``, the first fifth of them as a warm-up."""
    target = Target(name=case.server, url=server.url, body=case.body)
    connections = Connections(target, timeout_s=120)
    request = target.predict(image)
    try:
        await _loop(connections, request, case.concurrency, seconds / 5)
        before, started = server.usage(), time.perf_counter()
        recording = await _loop(connections, request, case.concurrency, seconds)
        elapsed, after = time.perf_counter() - started, server.usage()
    finally:
        connections.close()
    bad = [sample.outcome for sample in recording.samples if not sample.good]
    if bad or not recording.samples:
        raise SystemExit(f"{case.name}: {len(bad)} requests failed: {recording.texts}")
    number = len(recording.samples)
    latencies = sorted(sample.latency_s for sample in recording.samples)
    cpu_s = after.cpu_s - before.cpu_s
    return Measured(
        requests_per_s=number / elapsed,
        requests_per_cpu_s=number / cpu_s,
        p50_ms=latencies[number // 2] * 1e3,
        p99_ms=latencies[min(number - 1, number * 99 // 100)] * 1e3,
        cores=cpu_s / elapsed,
        peak_mb=after.peak_bytes / 1e6,
    )


async def _loop(
    connections: Connections, request: bytes, concurrency: int, seconds: float
) -> Recording:
    recording = Recording()
    loop = ClosedLoop(connections, iter(lambda: request, None), recording, clients=concurrency)
    asyncio.get_running_loop().call_later(seconds, loop.stop)
    await loop.run()
    return recording


def programs(detector: str, bench_python: Path, model: Path) -> list[Program]:
    """The servers; LitServe's comes last, and only where its environment is there."""
    chosen = ("--detector", detector)
    own = (
        Program("detserve", "detserve_no_op.py")
        if detector == "no_op"
        else Program(
            "detserve",
            "",
            ("--config", str(model / "config.yaml"), "--weights", str(model / "model.pth")),
        )
    )
    found = [own, Program("FastAPI", "plain_fastapi.py", chosen)]
    if bench_python.exists():
        found.append(Program("LitServe", "litserve_server.py", chosen, python=str(bench_python)))
    return found


def measure(
    servers: Sequence[Running], cases: Sequence[Case], image: BenchImage, seconds: float, turns: int
) -> dict[Case, list[Measured]]:
    """Every case ``turns`` times, one after the other."""
    by_name = {server.program.name: server for server in servers}
    results: dict[Case, list[Measured]] = {case: [] for case in cases}
    for case in track(list(cases) * turns, "Measuring"):
        result = uvloop.run(offer(by_name[case.server], case, image, seconds))
        results[case].append(result)
    return results


def idle_cores(server: Running) -> float:
    """CPU seconds per second of a server that nobody asks anything."""
    before, started = server.usage(), time.perf_counter()
    time.sleep(IDLE_S)
    return (server.usage().cpu_s - before.cpu_s) / (time.perf_counter() - started)


def middle(results: Sequence[Measured], field: str) -> float:
    return statistics.median(getattr(result, field) for result in results)


def ratios(
    results: dict[Case, list[Measured]], case: Case, reference: Case, field: str
) -> list[float]:
    """Turn by turn, ``case`` as a multiple of ``reference``."""
    pairs = zip(results[case], results[reference], strict=True)
    return [getattr(a, field) / getattr(b, field) for a, b in pairs]


def show(results: dict[Case, list[Measured]], idle: dict[str, float]) -> dict[str, Any]:
    """Print the table; the same as data."""
    table = Table(title="Medians of the turns; ratios pairwise (least to most)")
    for head in ("server", "body", "at a time", "req/s", "req/CPU-s", "p50 ms", "p99 ms", "MB"):
        table.add_column(head, justify="left" if head in ("server", "body") else "right")
    table.add_column("x LitServe by CPU", justify="right")
    document = []
    for case, turns in results.items():
        alike = (c for c in results if (c.server, c.concurrency) == ("LitServe", case.concurrency))
        peer = next(alike, None)
        entry: dict[str, Any] = {**asdict(case), "turns": [asdict(turn) for turn in turns]}
        shown = ""
        if peer is not None and peer != case:
            by_cpu = ratios(results, case, peer, "requests_per_cpu_s")
            entry["times_litserve_by_cpu"] = by_cpu
            entry["times_litserve"] = ratios(results, case, peer, "requests_per_s")
            shown = f"{statistics.median(by_cpu):.2f} ({min(by_cpu):.2f} to {max(by_cpu):.2f})"
        table.add_row(
            case.server,
            case.body,
            str(case.concurrency),
            f"{middle(turns, 'requests_per_s'):.4g}",
            f"{middle(turns, 'requests_per_cpu_s'):.4g}",
            f"{middle(turns, 'p50_ms'):.1f}",
            f"{middle(turns, 'p99_ms'):.1f}",
            f"{middle(turns, 'peak_mb'):.0f}",
            shown,
        )
        document.append(entry)
    console = Console()
    console.print(table)
    for name, cores in idle.items():
        console.print(f"{name}, idle: {100 * cores:.2f} % of a core")
    return {"cases": document, "idle_cores": idle}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--detector", choices=("no_op", "mask_rcnn"), default="no_op")
    parser.add_argument(
        "--seconds", type=float, default=0.0, help="a turn; 0: 4, or 40 with a model"
    )
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--concurrency", type=int, nargs="+", default=[])
    parser.add_argument(
        "--bench-python",
        type=Path,
        default=REPOSITORY / ".venv-bench" / "bin" / "python",
        help="the interpreter of an environment with LitServe",
    )
    parser.add_argument("--out", type=Path, default=REPOSITORY / "benchmarks" / "results")
    arguments = parser.parse_args()
    # Ended by a signal as well, the servers are to be stopped.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    no_op = arguments.detector == "no_op"
    seconds = arguments.seconds or (4.0 if no_op else 40.0)
    concurrency = arguments.concurrency or ([1, 8] if no_op else [4])
    cores = sorted(os.sched_getaffinity(0))
    server_cores = {cores[0]} if no_op else set(cores)
    if no_op:
        os.sched_setaffinity(0, {cores[-1]})
        image = BenchImage("padded.jpg", padded_jpeg(PADDED_BYTES), "image/jpeg", 32, 32)
    else:
        image = synthetic_images([(640, 480)], seed=0)[0]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if not no_op:
            from seeded_mask_rcnn import write_model

            write_model(folder)
        servers = [
            stack.enter_context(running(program, cores=server_cores, log=folder / f"{i}.log"))
            for i, program in enumerate(
                programs(arguments.detector, arguments.bench_python, folder)
            )
        ]
        bodies: dict[str, tuple[BodyKind, ...]] = {"detserve": ("multipart", "raw")}
        cases = [
            Case(server.program.name, body, clients)
            for clients in concurrency
            for server in servers
            for body in bodies.get(server.program.name, ("multipart",))
        ]
        idle = {server.program.name: idle_cores(server) for server in servers}
        results = measure(servers, cases, image, seconds, arguments.turns)
    document = show(results, idle)
    write_result(
        arguments.out / f"servers-{arguments.detector.replace('_', '-')}.json",
        {
            "machine": machine(),
            "versions": versions(bench_python=arguments.bench_python),
            "image": {"bytes": len(image.data), "width": image.width, "height": image.height},
            "seconds_per_turn": seconds,
            "server_cores": len(server_cores),
            **document,
        },
    )


if __name__ == "__main__":
    main()

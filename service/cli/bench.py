"""``detserve bench``: offers load to one or two servers and says what came of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def bench(
    urls: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="URL",
            help="Running servers, detserve or other; two are compared. None: one of our own is started.",
            show_default=False,
        ),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="Start a server of our own with this config.")
    ] = None,
    zoo: Annotated[
        str | None, typer.Option(help="Start one with a model of Detectron2's zoo.")
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(help="Checkpoint of that config or zoo model.")
    ] = None,
    server_options: Annotated[
        list[str] | None,
        typer.Option(
            "--server-option", metavar="NAME=VALUE", help="Setting of our own server; repeat."
        ),
    ] = None,
    concurrency: Annotated[
        str | None,
        typer.Option(
            metavar="1,2,4,8",
            help="Closed loop: so many clients, each sends when it was answered. The default.",
        ),
    ] = None,
    rate: Annotated[
        str | None,
        typer.Option(metavar="5,10,20", help="Open loop: so many requests arrive in a second."),
    ] = None,
    arrivals: Annotated[
        str, typer.Option(help="Arrivals of the open loop: poisson or uniform.")
    ] = "poisson",
    max_outstanding: Annotated[
        int, typer.Option(min=1, help="Unanswered requests of the open loop at most.")
    ] = 1000,
    duration: Annotated[
        float | None,
        typer.Option(min=0.1, help="Seconds that are measured of each level; default: 10."),
    ] = None,
    requests: Annotated[
        int | None, typer.Option(min=1, help="Requests of each level, instead of --duration.")
    ] = None,
    warmup: Annotated[
        float, typer.Option(min=0, help="Seconds of load before each measurement.")
    ] = 2.0,
    rounds: Annotated[
        int | None,
        typer.Option(min=1, help="How often each level is measured; default: 1, or 3 to compare."),
    ] = None,
    timeout: Annotated[float, typer.Option(min=0.1, help="Longest wait for an answer.")] = 60.0,
    images: Annotated[
        list[Path] | None, typer.Option(help="Image file or folder of images; repeat for several.")
    ] = None,
    sizes: Annotated[
        str | None,
        typer.Option(metavar="640x480,...", help="Made-up JPEGs of these sizes, instead of files."),
    ] = None,
    options: Annotated[
        list[str] | None,
        typer.Option("--option", metavar="NAME=VALUE", help="Query option of /predict; repeat."),
    ] = None,
    body: Annotated[
        list[str] | None,
        typer.Option(help="raw, multipart or json; twice for two servers. Default: multipart."),
    ] = None,
    path: Annotated[
        list[str] | None,
        typer.Option(help="Path that takes images; twice for two servers. Default: /predict."),
    ] = None,
    field: Annotated[
        list[str] | None,
        typer.Option(
            help="Field of the image; twice for two servers. Default: images, in JSON image."
        ),
    ] = None,
    header: Annotated[
        list[str] | None,
        typer.Option(metavar="'NAME: VALUE'", help="Header of every request; repeat."),
    ] = None,
    name: Annotated[
        list[str] | None, typer.Option(help="Name in tables and plots; twice for two servers.")
    ] = None,
    pid: Annotated[
        list[int] | None,
        typer.Option(
            help="Local process of the server, for CPU and memory; twice for two servers."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of arrivals and made-up images.")] = 0,
    json: Annotated[
        Path | None, typer.Option("--json", help="Write all figures to this file.")
    ] = None,
    svg: Annotated[
        Path | None, typer.Option("--svg", help="Write a latency-throughput plot to this file.")
    ] = None,
) -> None:
    """Measure throughput and latency of a running server, of a model, or of two servers in turns."""
    # Imported here, so that --help of the whole does not wait for it.
    from service.bench.command import run
    from service.bench.parsing import BenchOptions

    given = BenchOptions(
        urls=urls or [],
        config=config,
        zoo=zoo,
        weights=weights,
        server_options=server_options or [],
        concurrency=concurrency,
        rate=rate,
        arrivals=arrivals,
        max_outstanding=max_outstanding,
        duration_s=duration,
        requests=requests,
        warmup_s=warmup,
        rounds=rounds,
        timeout_s=timeout,
        images=images or [],
        sizes=sizes,
        options=options or [],
        bodies=body or [],
        paths=path or [],
        fields=field or [],
        headers=header or [],
        names=name or [],
        pids=pid or [],
        seed=seed,
        json=json,
        svg=svg,
    )
    raise typer.Exit(run(given))

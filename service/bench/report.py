"""The result as tables for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from service.bench.campaign import LevelResult, Result, TargetResult
from service.bench.figures import Figures, Spread, ratios
from service.bench.greeting import version_of

_RATIOS = {
    "images_per_s": "images/s",
    "p50": "p50",
    "p99": "p99",
    "cpu_per_image": "CPU per image",
}


def print_report(result: Result, warnings: Sequence[str], console: Console) -> None:
    """Print all tables, then what should be known of them."""
    for each in result.targets:
        if not each.levels:
            continue
        _head(each, result, console)
        _print_table(_load_table(each), console)
        server = _server_table(each)
        if server is not None:
            console.print()
            _print_table(server, console)
        console.print()
    if len(result.targets) == 2:
        _print_comparison(result, console)
    for warning in warnings:
        console.print("[yellow]note:[/] ", end="")
        console.print(warning, markup=False)


def _head(result: TargetResult, whole: Result, console: Console) -> None:
    target, greeting = result.target, result.greeting
    lines = [f"{target.name}  {target.url}{target.path}, {target.body}"]
    about = [version_of(greeting.build)]
    about += [
        f"{model.get('arch')} ({model.get('dtype')}) on {model.get('device')}"
        for model in greeting.models
    ]
    if greeting.instances is not None:
        about.append(f"{greeting.instances} instances in the first image")
    lines.append("; ".join(part for part in about if part))
    sizes = sorted({(image.width, image.height) for image in whole.images})
    shown = ", ".join(f"{width}x{height}" for width, height in sizes[:4])
    more = f" and {len(sizes) - 4} more sizes" if len(sizes) > 4 else ""
    mean = sum(len(image.data) for image in whole.images) / len(whole.images)
    lines.append(f"{len(whole.images)} images, {shown}{more}, {mean / 1000:.0f} kB on average")
    for number, line in enumerate(filter(None, lines)):
        console.print(line, style="bold" if number == 0 else "dim", markup=False)


def _load_table(result: TargetResult) -> Table:
    """Throughput and latency, as the client saw them; columns that are empty are left out."""
    peak = result.peak
    rows = [_load_row(level, peak) for level in result.levels]
    table = _table("load")
    titles = [title for title in rows[0] if any(row[title] for row in rows)]
    for title in titles:
        table.add_column(title, justify="right", no_wrap=True)
    for level, row in zip(result.levels, rows, strict=True):
        table.add_row(level.level.label, *(row[title] for title in titles))
    return table


def _load_row(level: LevelResult, peak: Figures | None) -> dict[str, str]:
    """Cells by their column; an empty one says that there is nothing to say."""
    figures = level.pooled
    latency = figures.latency
    good, refused, errors = figures.groups
    row = {"images/s": number(figures.images_per_s), "over rounds": ""}
    spread = Spread.of([each.images_per_s for each in level.rounds])
    if spread is not None and len(level.rounds) > 1:
        row["over rounds"] = f"{number(spread.least)}-{number(spread.most)}"
    of_peak = figures.images_per_s / peak.images_per_s if peak and peak.images_per_s else 0.0
    row["of peak"] = f"{of_peak:.0%}"
    for title in ("p50", "p95", "p99", "max"):
        row[f"{title} ms"] = number(getattr(latency, title)) if latency is not None else "-"
    for title, count in (("ok", good), ("429", refused), ("errors", errors)):
        row[title] = str(count or "")
    row["unsent"] = str(figures.unsent or "")
    busy = f"{figures.client_cpu:.0%}"
    row["client"] = f"[yellow]{busy}[/]" if figures.client_is_late else busy
    return row


def _server_table(result: TargetResult) -> Table | None:
    """What the server says of itself; None if nothing is known."""
    pooled = [level.pooled for level in result.levels]
    accounts = [figures.account for figures in pooled if figures.account is not None]
    stages = list(dict.fromkeys(name for account in accounts for name in account.stage_ms()))
    memory = any(figures.rss_bytes is not None for figures in pooled)
    if not stages and not memory:
        return None
    table = _table("server")
    columns = [f"{name} ms" for name in stages]
    batches = any(account.batches for account in accounts)
    columns += ["a batch ms"] if batches else []
    columns += ["CPU ms/image", "RSS MB", "peak MB"] if memory else []
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    if batches:
        table.add_column("images in a batch", no_wrap=True)
    for figures in pooled:
        account = figures.account
        times = account.stage_ms() if account is not None else {}
        row = [figures.level.label, *(number(times.get(name)) for name in stages)]
        if batches:
            row.append(number(account.batch_ms if account is not None else None))
        if memory:
            row.append(number(figures.cpu_ms_per_image))
            row += [_megabytes(figures.rss_bytes), _megabytes(figures.peak_bytes)]
        if batches:
            row.append(_histogram(figures))
        table.add_row(*row)
    return table


def _histogram(figures: Figures) -> str:
    """``3.2 (1: 10 %, 2: 20 %, ...)``: mean, then the share of batches of each size."""
    account = figures.account
    if account is None or account.mean_batch is None:
        return "-"
    total = sum(account.batches.values())
    bins = sorted(account.batches.items(), key=lambda item: _first_number(item[0]))
    shown = ", ".join(f"{size}: {count / total:.0%}" for size, count in bins)
    return f"{account.mean_batch:.1f} ({shown})"


def _first_number(label: str) -> float:
    words = label.replace("-", " ").split()
    return float(words[1]) + 0.5 if words[0] == "over" else float(words[0])


def _print_comparison(result: Result, console: Console) -> None:
    first, second = result.targets
    table = _table(f"{second.target.name} / {first.target.name}")
    for title in _RATIOS.values():
        table.add_column(title, justify="right", no_wrap=True)
    for a, b in zip(first.levels, second.levels, strict=False):
        found = ratios(a.rounds, b.rounds)
        cells = [_spread(found.get(name)) for name in _RATIOS]
        table.add_row(a.level.label, *cells)
    if table.row_count:
        _print_table(table, console)
        console.print("Median of the rounds, and their range.", style="dim")
        console.print()


def _spread(spread: Spread | None) -> str:
    if spread is None:
        return "-"
    return f"{spread.median:.2f} ({spread.least:.2f}-{spread.most:.2f})"


def number(value: float | None) -> str:
    """Three digits, or all before the point."""
    if value is None:
        return "-"
    decimals = next((d for d, limit in ((2, 9.995), (1, 99.95)) if value < limit), 0)
    return f"{value:.{decimals}f}"


def _table(first: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column(Text(first), no_wrap=True)
    return table


def _print_table(table: Table, console: Console) -> None:
    """Print all of ``table``, also where the terminal, or a pipe, says that it is narrower."""
    needed = console.measure(table, options=console.options.update_width(1000)).maximum
    given, console.width = console.width, max(console.width, needed)
    console.print(table)
    console.width = given


def _megabytes(size: int | None) -> str:
    return f"{size / 1e6:.0f}" if size is not None else "-"

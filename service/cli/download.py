"""``detserve download``: the published weights of a zoo model, checked against the name of the file."""

from __future__ import annotations

import hashlib
import http.client
import os
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from rich.table import Table

from models import zoo
from models.errors import ConfigError
from models.zoo import ZooModel

console = Console(stderr=True, highlight=False, soft_wrap=True)

SCHEMES = ("https",)
TIMEOUT_S = 8.0
"""To connect, and the longest silence while the file arrives."""

_CHUNK = 1 << 20
_COLUMNS = ("box AP", "mask AP", "keypoint AP", "PQ", "recall")


class DownloadError(Exception):
    """The file cannot be had; the message says why in one sentence."""


class _SameSchemes(urllib.request.HTTPRedirectHandler):
    """Follows no redirect to a scheme that was not allowed in the first place."""

    def redirect_request(  # type: ignore[no-untyped-def]  # the signature is urllib's
        self, req, fp, code, msg, headers, newurl
    ) -> urllib.request.Request | None:
        _check_scheme(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def run(name: str | None, *, out: Path) -> int:
    """Download the file of the model ``name`` into ``out``; 0, 1 if it failed, 2 for a wrong name."""
    if name is None:
        console.print("error: name a model, or use --list to see them all.", style="red")
        return 2
    try:
        model = zoo.get(name)
    except ConfigError as error:
        console.print(f"error: {error.message}", style="red", markup=False)
        return 2
    target = out / model.file_name
    try:
        if target.is_file() and _md5(target).startswith(model.md5_prefix):
            console.print(f"{target} is there already and intact.", markup=False)
        else:
            fetch(model.url, target, md5_prefix=model.md5_prefix)
            console.print(f"{model.name} -> {target}", markup=False)
    except DownloadError as error:
        console.print(f"error: {error}", style="red", markup=False)
        return 1
    except OSError as error:
        console.print(f"error: {target} cannot be written: {error.strerror}.", style="red")
        return 1
    console.print(f"    detserve serve --zoo {model.name} --weights {target}", markup=False)
    return 0


def fetch(url: str, target: Path, *, md5_prefix: str) -> None:
    """Download ``url`` to ``target``, which exists only once it is complete and checked.

    Raises:
        DownloadError: the host cannot be reached, has no such file, stops, or sends another file.
        OSError: ``target`` cannot be written.
    """
    _check_scheme(url)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, part_name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    part = Path(part_name)
    try:
        with os.fdopen(handle, "wb") as file:
            digest = _receive(url, file.write, target.name)
        if not digest.startswith(md5_prefix):
            raise DownloadError(
                f"What {url} sent is damaged: its MD5 is {digest}, but should begin with "
                f"{md5_prefix}. Try again."
            )
        part.chmod(0o644)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def _receive(url: str, write: Callable[[bytes], object], name: str) -> str:
    """Hand the content of ``url`` to ``write`` in pieces; its MD5."""
    digest = hashlib.md5(usedforsecurity=False)
    opener = urllib.request.build_opener(_SameSchemes)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    try:
        response = opener.open(url, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        error.close()
        raise DownloadError(f"{url} answers {error.code} {error.reason}.") from None
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise DownloadError(
            f"{url} cannot be reached ({reason}); without a network, download the file elsewhere "
            "and give it with --weights."
        ) from None
    with response, Progress(*columns, TransferSpeedColumn(), console=console) as progress:
        length = response.headers.get("Content-Length")
        total = int(length) if length is not None and length.isdecimal() else None
        task = progress.add_task(name, total=total)
        received = 0
        while True:
            try:
                chunk = response.read(_CHUNK)
            except (OSError, http.client.HTTPException) as error:
                raise DownloadError(
                    f"{url} stopped sending after {received} bytes: {error}."
                ) from None
            if not chunk:
                break
            write(chunk)
            digest.update(chunk)
            received += len(chunk)
            progress.update(task, completed=received)
    if total is not None and received != total:
        raise DownloadError(f"{url} stopped sending after {received} of {total} bytes. Try again.")
    return digest.hexdigest()


def show_list() -> int:
    """Print all models of the zoo with Detectron2's own figures."""
    table = Table(box=None, pad_edge=False)
    table.add_column("name", no_wrap=True)
    for column in _COLUMNS:
        table.add_column(column, justify="right")
    for name in zoo.names():
        table.add_row(name, *_figures(zoo.get(name)))
    # Wide enough for the table even where nobody looks, as in a pipe.
    Console(highlight=False, width=max(console.width, 120)).print(table)
    return 0


def _figures(model: ZooModel) -> list[str]:
    figures = (
        model.box_ap,
        model.mask_ap,
        model.keypoint_ap,
        model.panoptic_quality,
        model.proposal_recall,
    )
    return ["" if figure is None else f"{figure:.1f}" for figure in figures]


def _check_scheme(url: str) -> None:
    if url.partition("://")[0] not in SCHEMES:
        raise DownloadError(f"{url} is not an https address.")


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()

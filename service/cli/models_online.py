"""``detserve models`` on a running server, through its admin routes."""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, SpinnerColumn

from service.cli.admin_client import AdminClient, AdminError
from service.cli.models_offline import REFUSED, WRONG_USE, NewVersion
from service.cli.models_tables import (
    TEXT,
    bytes_bar,
    console,
    fail,
    gate_table,
    print_json,
    progress_bar,
    say,
    size_text,
    versions_table,
)
from service.errors import ApiError
from service.repository.disk.copying import copy_config, copy_pictures
from service.repository.disk.manifest import (
    CONFIG,
    GOLDEN,
    KEYPOINTS,
    LABELS,
    MODEL_YAML,
    STUFF_LABELS,
)
from service.repository.disk.names import check_name

POLL_S = 0.25

_COLUMNS = ("model", "version", "state", "current", "aliases", "reason")
_CHUNK = 1 << 20


def told(url: str, token: str | None, action: Callable[[AdminClient], int]) -> int:
    """Run ``action`` with the server at ``url``; what it raises becomes one sentence and the exit code."""
    try:
        client = AdminClient(url, token)
    except ValueError as error:
        return fail(str(error), WRONG_USE)
    try:
        return action(client)
    except AdminError as error:
        return fail(str(error))
    except ApiError as error:
        return fail(error.message, WRONG_USE if error.code == "invalid_name" else REFUSED)
    except OSError as error:
        return fail(f"{error.filename or 'A file'} cannot be read: {error.strerror}.")


def list_models(client: AdminClient, name: str | None, *, as_json: bool) -> int:
    """All versions of all models, or of one, as the server knows them."""
    if name is None:
        found = client.get("models")
        models = found.get("models", [])
    else:
        found = client.get("models", check_name("model", name))
        models = [found]
    if as_json:
        print_json(found)
        return 0
    rows = [
        {"model": model.get("name"), **version}
        for model in models
        for version in model.get("versions") or ()
    ]
    console().print(versions_table(_COLUMNS, rows))
    return 0


def add(client: AdminClient, name: str, label: str | None, files: NewVersion) -> int:
    """Upload files and have the server make them a version."""
    check_name("model", name)
    label = check_name("version", label) if label is not None else _next_label(client, name)
    assert files.weights is not None, "the command line has seen to it"
    with tempfile.TemporaryDirectory(prefix="detserve-") as folder:
        sources = _sources(files, Path(folder))
        hashes: dict[str, str] = {}
        with bytes_bar(2 * sum(path.stat().st_size for path in sources.values())) as advance:
            for target, path in sources.items():
                hashes[target] = _sha256(path, advance)
            _upload(client, (name, label), sources, hashes, lambda n: advance("Uploading", n))
    place = ("models", name, "versions", label, "complete")
    done = client.send("POST", *place, body={"files": hashes})
    digest = str(done.get("digest", ""))[:12]
    say(f"{name} {label} is complete: {len(hashes)} files, {digest}.")
    return 0


def promote(client: AdminClient, name: str, word: str, options: dict[str, Any]) -> int:
    """Have the server make a version current, and follow it until it is, or is refused."""
    body = {"model": check_name("model", name), "version": word, "wait": False, **options}
    return _follow(client, client.send("POST", "reload", body=body))


def go_back(client: AdminClient, name: str) -> int:
    """Have the server make the previous version current again."""
    place = ("models", check_name("model", name), "rollback")
    return _follow(client, client.send("POST", *place, body={"wait": False}))


def remove(client: AdminClient, name: str, label: str) -> int:
    """Have the server delete a version."""
    place = ("models", check_name("model", name), "versions", check_name("version", label))
    client.send("DELETE", *place)
    say(f"{name} {label} is removed.")
    return 0


def _follow(client: AdminClient, job: dict[str, Any]) -> int:
    """Show the phases of a job as they come, and what came of it."""
    shown: set[str] = set()
    with progress_bar(SpinnerColumn(), TEXT, BarColumn()) as bar:
        task = bar.add_task("", total=None)
        while True:
            running = job.get("state") == "running"
            for phase, seconds in (job.get("phases_s") or {}).items():
                # A phase is timed when it has ended.
                if phase not in shown and not (running and phase == job.get("phase")):
                    shown.add(phase)
                    bar.console.print(f"{phase:<10} {seconds:8.2f} s", markup=False)
            if not running:
                break
            progress = job.get("progress")
            bar.update(
                task,
                description=str(job.get("phase", "")),
                total=None if progress is None else 1.0,
                completed=progress or 0.0,
            )
            time.sleep(POLL_S)
            job = client.get("reload", str(job.get("id", "")))
    return _told_outcome(job)


def _told_outcome(job: dict[str, Any]) -> int:
    error = job.get("error") or {}
    gate = job.get("gate") or (error.get("details") or {}).get("gate")
    if gate:
        console().print(gate_table(gate))
    if job.get("warning"):
        console(stderr=True).print(job["warning"], style="yellow", markup=False)
    if job.get("state") != "succeeded":
        return fail(str(error.get("message") or "The reload ended without a reason."))
    name, candidate = job.get("model"), job.get("candidate") or job.get("version")
    if job.get("outcome") == "dry_run":
        say(f"{name}: {candidate} passes; nothing was changed.")
    elif job.get("outcome") == "unchanged":
        say(f"{name}: {candidate} is current already.")
    else:
        freed = job.get("freed_bytes")
        freed_text = f"; {size_text(freed)} of {job.get('previous_version')} freed" if freed else ""
        say(f"{name}: {job.get('version')} is current{freed_text}.")
    return 0


def _next_label(client: AdminClient, name: str) -> str:
    """The number after the highest that the server knows of this model."""
    try:
        versions = client.get("models", name).get("versions") or ()
    except AdminError as error:
        if error.code != "unknown_model":
            raise
        versions = ()
    labels = [str(version.get("version", "")) for version in versions]
    numbers = [int(label) for label in labels if label.isascii() and label.isdecimal()]
    return str(max(numbers, default=0) + 1)


def _sources(files: NewVersion, folder: Path) -> dict[str, Path]:
    """The files by their names on the server. What has to be written anew is written to ``folder``."""
    assert files.weights is not None
    suffix = files.weights.suffix.lower()
    # The content tells what it is; .pt is what some call .pth.
    sources = {f"model_final{'.pth' if suffix == '.pt' else suffix}": files.weights}
    if files.config is not None:
        copy_config(files.config, folder / CONFIG, None)
        sources[CONFIG] = folder / CONFIG
    for path, name in (
        (files.labels, LABELS),
        (files.stuff_labels, STUFF_LABELS),
        (files.keypoints, KEYPOINTS),
        (files.model_yaml, MODEL_YAML),
        (files.golden, GOLDEN),
    ):
        if path is not None:
            sources[name] = path
    if files.golden is not None:
        copy_pictures(files.golden.parent / "golden", folder / "golden", None)
        sources |= {f"golden/{path.name}": path for path in sorted((folder / "golden").iterdir())}
    return sources


def _upload(
    client: AdminClient,
    version: tuple[str, str],
    sources: dict[str, Path],
    hashes: dict[str, str],
    advance: Callable[[int], None],
) -> None:
    """Send all files; after a failure the server is asked to forget those that have arrived."""
    name, label = version
    arrived = 0
    try:
        for target, path in sources.items():
            client.upload(
                path,
                *("models", name, "versions", label, "files", target),
                size=path.stat().st_size,
                sha256=hashes[target],
                progress=advance,
            )
            arrived += 1
    except (AdminError, OSError) as error:
        # An upload of somebody else is theirs.
        if arrived and getattr(error, "code", "") != "upload_running":
            _drop(client, name, label)
        raise


def _sha256(path: Path, advance: Callable[[str, int], None]) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            advance("Hashing", len(chunk))
    return digest.hexdigest()


def _drop(client: AdminClient, name: str, label: str) -> None:
    """Have the server forget what has arrived; the reason why is told by the caller."""
    try:
        client.send("DELETE", "models", name, "versions", label, "upload")
    except AdminError as error:
        console(stderr=True).print(f"The upload was not dropped: {error}", markup=False)

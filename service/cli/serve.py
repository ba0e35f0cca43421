"""``detserve serve``: load the model, then serve it until a signal."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError
from rich.console import Console

from models.errors import ModelError
from service.allocator import keep_large_buffers
from service.app import create_app
from service.errors import ApiError
from service.logging import configure_logging
from service.repository.served import ServedModel
from service.runtime import Runtime
from service.server import serve
from service.server.listening import CannotListenError, listen
from service.settings import PRETRAINED, Settings, unknown_variables

console = Console(stderr=True, highlight=False, soft_wrap=True)


def run(arguments: Sequence[str]) -> int:
    """Serve as ``arguments``, the environment and ``.env`` say; the exit code."""
    try:
        settings = Settings(
            _cli_parse_args=list(map(_kebab, arguments)), _cli_prog_name="detserve serve"
        )  # type: ignore[call-arg]  # of pydantic-settings, unknown to its types
    except ValidationError as error:
        for problem in error.errors(include_url=False):
            field = ".".join(map(str, problem["loc"]))
            message = problem["msg"].removeprefix("Value error, ")
            _complain(f"{'--' + field.replace('_', '-') + ': ' if field else ''}{message}")
        return 2
    except UnicodeDecodeError:
        _complain("The file .env is not UTF-8 text; save it as UTF-8.")
        return 2
    unknown = unknown_variables()
    if unknown:
        _complain(
            f"Unknown setting {', '.join(unknown)} in the environment or .env; detserve serve --help "
            "lists them."
        )
        return 2
    configure_logging(settings.log_level, json=settings.log_json)
    keep_large_buffers()
    if settings.model_root is not None and not settings.model_root.is_dir():
        _complain(f"--model-root: there is no folder {settings.model_root}.")
        return 2
    if settings.grpc_port:
        try:  # before the model is loaded; gRPC itself says no more than that it failed
            listen(settings.host, settings.grpc_port).close()
        except CannotListenError as error:
            _complain(f"--grpc-port: {error}")
            return 1
    try:
        runtime = Runtime(settings)
    except (ModelError, ApiError) as error:
        _complain(error.message)
        return 2
    try:
        with console.status("Loading the model ..."):
            runtime.load()
    except (ModelError, ApiError) as error:
        _complain(error.message)
        runtime.close()
        return 1

    def drain() -> None:
        runtime.draining = True

    code = serve(
        create_app(runtime),
        host=settings.host,
        port=settings.port,
        drain_delay_s=settings.drain_delay_s,
        drain_timeout_s=settings.drain_timeout_s,
        head_timeout_s=settings.header_timeout_s,
        on_drain=drain,
        on_refused=runtime.metrics.request_refused,
        ready_banner=lambda address: _banner(address, runtime),
        failure=runtime.failure_reason,
    )
    runtime.close()
    if runtime.scheduler.alive or runtime.scheduler.failure is not None:
        # The model is in the middle of a batch that nobody waits for any more, or the device is lost.
        # Taking the interpreter down around a running kernel, or freeing what a lost device holds,
        # crashes; the process has nothing else to lose.
        logging.shutdown()
        sys.stderr.flush()
        os._exit(code)
    return code


def _complain(message: str) -> None:
    console.print("[red]error:[/] ", end="")
    console.print(message, markup=False)


def _kebab(argument: str) -> str:
    """``--max_queue`` and ``--max-queue`` are the same flag."""
    if not argument.startswith("--"):
        return argument
    flag, equals, value = argument.partition("=")
    return flag.replace("_", "-") + equals + value


def _banner(address: str, runtime: Runtime) -> None:
    lines = [*map(_in_words, runtime.repository)] or [
        "The repository has no version yet. Add one: detserve models add."
    ]
    lines.append(f"Serving at {address} (a page to play with; API at {address}/docs).")
    if runtime.repository:
        sample = PRETRAINED / "samples" / "shapes-1.jpg"
        if runtime.settings.weights is None and runtime.settings.repository is None:
            sample = sample.relative_to(Path.cwd()) if sample.is_relative_to(Path.cwd()) else sample
            image = str(sample)
        else:
            image = "photo.jpg"
        lines[-1] += " Try:"
        lines += ["", f"    curl -F images=@{image} {address}/predict", ""]
    print("\n".join(lines), file=sys.stderr, flush=True)  # noqa: T201  # what the operator asked to see


def _in_words(model: ServedModel) -> str:
    """A model and its current version, on a line."""
    description = model.current.detector.description
    version = f" version {model.current.label}" if model.current.label != "1" else ""
    return (
        f"{model.name}{version}: {description.architecture}, {description.backbone}, "
        f"{len(description.class_names)} classes, on {description.device}"
    )

"""The first words with a target: whether it is there and ready, what it is, and one image."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from service.bench.connection import Answer, Connections
from service.bench.errors import BenchError
from service.bench.images import BenchImage
from service.bench.measure import METRICS_PATH
from service.bench.recording import readable
from service.bench.server_metrics import Scrape
from service.bench.target import Target


@dataclass(frozen=True)
class Greeting:
    """What is known of a target before it is measured.

    Attributes:
        scrapes: whether it has Prometheus metrics.
        build: versions of a detserve, else empty.
        models: what a detserve serves: architecture, weights, precision, device.
        instances: how many it found in the first image, if its answer is like ours.
        answer_bytes: length of that answer.
    """

    scrapes: bool
    build: dict[str, str]
    models: list[dict[str, str]]
    instances: int | None
    answer_bytes: int


async def greet(target: Target, image: BenchImage, *, timeout_s: float) -> Greeting:
    """Ask ``target`` for its readiness and metrics, and send ``image``.

    Raises:
        BenchError: it cannot be reached, is not ready, or does not answer ``image`` with 2xx.
    """
    connections = Connections(target, timeout_s=timeout_s)
    try:
        # Other servers have no such path; only what says that it is not ready is believed.
        ready = await connections.exchange(target.get("/readyz"), keep_body=True)
        if ready.failure is not None:
            raise BenchError(f"{target.url} cannot be reached: {_failure(ready, timeout_s)}.")
        if ready.status == 503:
            raise BenchError(f"{target.url} is not ready: {_reason(ready)}")
        predicted = await connections.exchange(target.predict(image), keep_body=True)
        if predicted.failure is not None:
            raise BenchError(
                f"{target.url} did not answer to {image.name} at {target.path}: "
                f"{_failure(predicted, timeout_s)}."
            )
        if not 200 <= predicted.status < 300:
            raise BenchError(
                f"{target.url} answers {predicted.status} to {image.name} at {target.path}: "
                f"{_reason(predicted)}"
            )
        metrics = await connections.exchange(target.get(METRICS_PATH), keep_body=True)
    finally:
        connections.close()
    scrape = _scrape(metrics)
    return Greeting(
        scrapes=scrape is not None,
        build=next(iter(scrape.labels_of("build_info")), {}) if scrape is not None else {},
        models=scrape.labels_of("model_info") if scrape is not None else [],
        instances=_instances(predicted.body),
        answer_bytes=len(predicted.body),
    )


def _failure(answer: Answer, timeout_s: float) -> str:
    """A failure in words."""
    words = {
        "connect": readable(answer.body),
        "closed": "it closed the connection",
        "timeout": f"no answer within {timeout_s:g} s",
        "not HTTP": "what it sends is not HTTP",
    }
    return words.get(answer.failure or "", answer.failure or "")


def _reason(answer: Answer) -> str:
    """What an answer says of itself: the message of our errors, else its beginning."""
    try:
        content = json.loads(answer.body)
    except ValueError:
        return readable(answer.body) or "(no text)"
    error = content.get("error") if isinstance(content, dict) else None
    message = error.get("message") if isinstance(error, dict) else None
    reason = content.get("reason") if isinstance(content, dict) else None
    return str(message or reason or readable(answer.body))


def _scrape(answer: Answer) -> Scrape | None:
    if answer.status != 200:
        return None
    try:
        return Scrape(answer.body.decode("utf-8", "replace"))
    except ValueError:
        return None


def _instances(body: bytes) -> int | None:
    try:
        return len(json.loads(body)["predictions"][0]["instances"]["scores"])
    except (ValueError, LookupError, TypeError):
        return None  # another server, or a model without instances


def version_of(build: dict[str, Any]) -> str:
    """For people: ``detserve 0.1.0, torch 2.14.1``; empty for another server."""
    if not build:
        return ""
    return f"detserve {build.get('version')}, torch {build.get('torch')}"

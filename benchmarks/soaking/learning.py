"""Before the soak: what each version answers to each picture, asked of the quiet server itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import httpx

from soaking.answers import Found, VersionAnswers, Versions, look_alike
from soaking.run import Picture


class NotFit(Exception):
    """The versions or the pictures do not suit a soak; the message says why."""


async def learn_versions(
    client: httpx.AsyncClient, model: str, labels: Sequence[str], pictures: Sequence[Picture]
) -> Versions:
    """The answers of the versions ``labels``, each asked for by its name; the current one stays so.

    A picture is asked for alone, and again with all of the others: what differs then by more than
    rounding would fail the soak for a reason that has nothing to do with swaps.

    Raises:
        NotFit: the server refuses; answers are empty, unsteady, or alike between versions.
    """
    described = await _asked(client, "GET", f"/models/{model}")
    versions: dict[str, VersionAnswers] = {}
    for label in labels:
        path = f"/models/{model}/versions/{label}"
        is_current = described["version"] == label
        if not is_current:
            await _asked(client, "POST", f"{path}/load", json={})
        versions[label] = await _learn(client, label, pictures)
        if not is_current:
            await _asked(client, "POST", f"{path}/unload", json={})
    alike = look_alike(versions)
    if alike:
        raise NotFit(
            f"The versions answer alike to {', '.join(alike)}: nobody could tell them apart."
        )
    return versions


async def _learn(
    client: httpx.AsyncClient, label: str, pictures: Sequence[Picture]
) -> VersionAnswers:
    together = await _predict(client, label, pictures)
    found: dict[str, Found] = {}
    for picture, prediction in zip(pictures, together["predictions"], strict=True):
        alone = (await _predict(client, label, [picture]))["predictions"][0]
        found[picture.name] = Found.of(alone["instances"])
        why = Found.of(prediction["instances"]).difference(found[picture.name])
        if why is not None:
            raise NotFit(f"Version {label} answers otherwise to {picture.name} in company: {why}.")
        if not found[picture.name].classes:
            raise NotFit(f"Version {label} finds nothing in {picture.name}.")
    return VersionAnswers(label, together["model"]["weights_sha256"], found)


async def _predict(
    client: httpx.AsyncClient, label: str, pictures: Sequence[Picture]
) -> dict[str, Any]:
    files = [("images", (one.name, one.data, one.media_type)) for one in pictures]
    return await _asked(client, "POST", "/predict", params={"version": label}, files=files)


async def _asked(client: httpx.AsyncClient, method: str, path: str, **given: Any) -> dict[str, Any]:
    try:
        response = await client.request(method, path, **given)
    except httpx.HTTPError as error:
        raise NotFit(f"{path} was not answered: {type(error).__name__} {error}") from error
    if response.status_code != 200:
        raise NotFit(f"{path} was refused: {response.status_code} {response.text[:500]}")
    answer: dict[str, Any] = response.json()
    return answer

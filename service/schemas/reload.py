"""What changes a model: bodies of ``/reload`` and its kin, and the job that they answer with."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from service.repository.model_settings import Gate
from service.schemas.answers import Answer, ErrorDetail
from service.schemas.options import VersionName


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    wait: bool = Field(
        True, description="Answer when it is done (200, or 4xx), or at once with 202."
    )
    strategy: Literal["side_by_side", "in_place"] = Field(
        "side_by_side",
        description="in_place frees the current version before the new one is loaded, where two do "
        "not fit; requests wait meanwhile.",
    )
    current: VersionName | None = Field(
        None, max_length=64, description="Only if this is the current version; else 409."
    )


class RollbackRequest(_Request):
    """Body of ``POST /models/{m}/rollback``; may be empty."""


class LoadRequest(_Request):
    """Body of ``POST /models/{m}/versions/{v}/load``; may be empty."""

    dry_run: bool = Field(False, description="Load and check it, and let it go again.")
    gate: Gate | Literal[False] | None = Field(
        None,
        description="A validation set to pass, its paths under the model root; null: the one in the "
        "version's model.yaml; false: none.",
    )
    allow_class_changes: bool = Field(
        False, description="Let class ids change their meaning, or vanish."
    )


class AliasRequest(LoadRequest):
    """Body of ``PUT /models/{m}/aliases/{alias}``."""

    version: VersionName = Field(
        max_length=64, description="The version, which is loaded if it is not."
    )


class ReloadRequest(LoadRequest):
    """Body of ``POST /reload``; empty reloads the first model from what it came from."""

    model: str | None = Field(None, max_length=64, description="Name; default: the first model.")
    version: VersionName | None = Field(
        None,
        max_length=64,
        description="Of the repository: a version, an alias, latest or previous. Default: the one "
        "that is recorded as current.",
    )
    weights: str | None = Field(
        None,
        min_length=1,
        max_length=4096,
        description="Without a repository: a checkpoint under the model root.",
        examples=["v2/model_final.pth"],
    )
    config: str | None = Field(
        None,
        min_length=1,
        max_length=4096,
        description="Config under the model root; default: the current one.",
    )
    labels: str | None = Field(
        None, min_length=1, max_length=4096, description="Class names under the model root."
    )


class ReloadAnswer(Answer):
    """A reload, a rollback or a load."""

    id: str
    model: str
    action: Literal["reload", "rollback", "load"]
    state: Literal["running", "succeeded", "failed"]
    outcome: str | None = Field(
        description="swapped, rolled_back, loaded, unchanged, dry_run; or how far it came: "
        "preflight_failed, load_failed, validation_failed, gate_failed, warmup_failed, not_recorded."
    )
    phase: str = Field(description="preflight, load, check, gate, warm_up, swap, drain, done.")
    progress: float | None = Field(description="Of the phase, 0 to 1; null where it cannot tell.")
    phases_s: dict[str, float] = Field(description="Seconds that each phase took.")
    candidate: str | None = Field(description="The version that is tried.")
    previous_version: str | None = Field(description="What answered before.")
    version: str | None = Field(description="The version, once it answers.")
    dry_run: bool
    strategy: Literal["side_by_side", "in_place"]
    load_report: dict[str, Any] | None
    checks: dict[str, Any] | None = Field(description="What the self-check has run and found.")
    gate: dict[str, Any] | None = Field(description="The table of figures.")
    warm_up: dict[str, Any] | None = Field(description="The shapes that ran before the swap.")
    freed_bytes: int | None = Field(description="Memory of the previous version.")
    warning: str | None
    error: ErrorDetail | None
    created_at: float = Field(description="Unix time.")

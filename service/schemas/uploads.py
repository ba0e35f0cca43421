"""What crosses the wire when a version is uploaded; see :mod:`service.routes.upload`."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from service.schemas.answers import Answer

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-fA-F]{64}$")]


class UploadedFile(Answer):
    """A file that has arrived."""

    name: str
    size: int = Field(description="Bytes.")
    sha256: str


class CompleteRequest(BaseModel):
    """Body of ``POST .../complete``; it may be empty."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    files: dict[str, Sha256] | None = Field(
        None, description="SHA-256 by name of all files that the version has; others are refused."
    )


class UploadedVersion(Answer):
    """A version that is complete and can be promoted."""

    model: str
    version: str
    digest: str = Field(description="SHA-256 of names, sizes and hashes of all files.")
    files: list[UploadedFile]

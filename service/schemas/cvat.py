"""What crosses the wire between CVAT, or a function of its, and this server."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class CvatRequest(BaseModel):
    """Body of ``POST /cvat/``. Other keys are taken and not used."""

    model_config = ConfigDict(extra="ignore")

    image: str = Field(description="The image file in base64.")
    threshold: float | None = Field(
        None,
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="Least confidence; default: the model's own, below which nothing is computed.",
        examples=[0.5],
    )


class CvatShape(BaseModel):
    """One shape.

    ``mask`` has the pixels of a crop, row after row, and then its left, top, right and bottom, all
    within the mask; with ``shape=rle`` the ``points`` have run lengths of that crop in their place.
    """

    confidence: str = Field(description="Of the instance, as text.", examples=["0.98"])
    label: str = Field(examples=["disc"])
    type: str = Field(description="rectangle, polygon or mask.", examples=["rectangle"])
    points: list[float] = Field(description="x and y by turns, in pixels.")
    rotation: float | None = Field(None, description="Of a rectangle: degrees clockwise.")
    mask: list[int] | None = None

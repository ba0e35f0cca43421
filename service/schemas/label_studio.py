"""What crosses the wire between Label Studio and its ML backend."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

MAX_TASKS = 1000


class LabelStudioHealth(BaseModel):
    """Answer of ``GET /label-studio/health``."""

    status: str = Field(description="UP.", examples=["UP"])
    model_class: str = Field(
        description="The architecture of the model.", examples=["GeneralizedRCNN"]
    )


class LabelStudioSetup(BaseModel):
    """Body of ``POST /label-studio/setup``. Other keys are taken and not used."""

    model_config = ConfigDict(extra="ignore")

    project: str | int | None = Field(None, description="Id of the project.", examples=["3.16"])
    label_config: str = Field(
        "", alias="schema", description="The label config, XML.", examples=["<View></View>"]
    )


class LabelStudioVersion(BaseModel):
    """Answer of ``POST /label-studio/setup``."""

    model_version: str = Field(description="name@version.", examples=["shapes@1"])


class LabelStudioPredict(BaseModel):
    """Body of ``POST /label-studio/predict``. Other keys are taken and not used."""

    model_config = ConfigDict(extra="ignore")

    tasks: list[dict[str, Any]] = Field(
        max_length=MAX_TASKS,
        description="Tasks, with the picture in their data: a data URL, a path of Label Studio, or a URL.",
    )
    label_config: str = Field("", description="The label config of the project, XML.")


class LabelStudioRegion(BaseModel):
    """One region: a rectangle, polygon, brush mask or keypoint, in percent of the picture."""

    id: str
    from_name: str
    to_name: str
    type: str
    original_width: int
    original_height: int
    image_rotation: int
    score: float
    value: dict[str, Any]
    parentID: str | None = None  # noqa: N815  # Label Studio's name


class LabelStudioPrediction(BaseModel):
    """The prediction of one task; a task that failed has no regions."""

    result: list[LabelStudioRegion]
    score: float = Field(description="Mean score of the instances, 0 without any.")
    model_version: str = Field(description="name@version.", examples=["shapes@1"])


class LabelStudioPredictions(BaseModel):
    """Answer of ``POST /label-studio/predict``: one entry for each task, in order."""

    results: list[LabelStudioPrediction]


class LabelStudioEvent(BaseModel):
    """Body of ``POST /label-studio/webhook``. Other keys are taken and not used."""

    model_config = ConfigDict(extra="ignore")

    action: str = Field(max_length=100, examples=["ANNOTATION_CREATED"])


class LabelStudioEventAnswer(BaseModel):
    """Answer of ``POST /label-studio/webhook`` to an event that the protocol knows."""

    result: None = Field(description="What training came to. Nothing is trained here.")
    status: str = Field(description="ok.", examples=["ok"])


class LabelStudioUnknownEvent(BaseModel):
    """Answer of ``POST /label-studio/webhook`` to any other event."""

    status: str = Field(description="Unknown event.", examples=["Unknown event"])

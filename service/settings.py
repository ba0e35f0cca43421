"""All that an operator can set: ``DETSERVE_*``, a ``.env`` file, flags of ``detserve serve``."""

from __future__ import annotations

import os
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal

from dotenv import dotenv_values
from pydantic import BeforeValidator, Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from models.execution import Mode
from service.images.limits import PILLOW_MAX_PIXELS

PRETRAINED = Path(__file__).parent.parent / "models" / "pretrained" / "shapes"
"""The embedded demo model: a small Mask R-CNN that finds discs, rectangles, triangles and stars."""

WEIGHTS_MISSING = "--zoo needs --weights too; detserve download NAME fetches the published file."


def _paths(value: Any) -> Any:
    """Paths or words with commas between them, as the environment and repeated flags give them."""
    return [path for path in value.split(",") if path] if isinstance(value, str) else value


Words = Annotated[list[str], NoDecode, BeforeValidator(_paths)]


def _is_service_link(value: Any) -> bool:
    return isinstance(value, str) and value.startswith(("tcp://", "udp://"))


class Settings(BaseSettings):
    """Settings of one server. Each field is ``DETSERVE_<NAME>`` and ``--<name>``."""

    model_config = SettingsConfigDict(
        env_prefix="DETSERVE_",
        env_prefix_target="all",  # the other name of a field too, or a bare IMPORT would run code
        env_file=".env",
        dotenv_filtering="only_existing",
        env_file_encoding="utf-8",
        extra="ignore",
        cli_kebab_case=True,
        cli_implicit_flags=True,
        cli_hide_none_type=True,
        hide_input_in_errors=True,  # the input holds tokens
    )

    config: Path | None = Field(
        None,
        description="Detectron2 config (YAML); not for weights of torchvision's own detectors.",
    )
    zoo: str | None = Field(
        None,
        description="Instead of a config: a model of Detectron2's zoo; see detserve download --list.",
    )
    weights: Path | None = Field(
        None, description="Checkpoint (.pth, .pkl, .safetensors) of that config or zoo model."
    )
    plugins: Annotated[list[Path], NoDecode, BeforeValidator(_paths)] = Field(
        default_factory=list,
        validation_alias="import",
        description="Python files of yours that register backbones, heads or architectures; repeat "
        "for several, or put commas between them.",
    )
    labels: Path | None = Field(
        None, description="Class names, one a line; default: labels.txt beside the config."
    )
    name: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$",
        description="Name of the model; default: the name of the config's folder. With a repository: "
        "the model that answers requests which name none; default: the one that was current first.",
    )
    model_root: Path | None = Field(
        None,
        description="Folder that paths of /reload must not leave; default: the folder of the config, "
        "or of the weights of a zoo model.",
    )
    repository: Path | None = Field(
        None,
        description="Instead of a config: a model repository, a folder for each model and in it one "
        "for each version; see detserve models.",
    )
    watch_s: float = Field(
        0.0,
        ge=0,
        le=86_400,
        description="How often to look for new versions in the repository; 0: only when told.",
    )
    keep_previous: Literal["disk", "memory"] = Field(
        "disk",
        description="What a rollback starts from: the files, or the previous version itself, which "
        "stays in host memory.",
    )
    device: str = Field("auto", description="auto, cpu or cuda:n.")
    mode: Mode = Field(
        "exact",
        description="reference: as Detectron2 computes. exact: the same answers, sooner. fast: half "
        "precision, where the device is faster with it.",
    )
    resize: Literal["auto", "pil", "fast"] = Field(
        "auto",
        description="pil: bit-equal to Detectron2's. fast: a grey level off here and there. auto: "
        "fast in the fast mode alone.",
    )
    threads: int = Field(
        0, ge=0, le=1024, description="CPU threads for all of the work together; 0: all cores."
    )

    host: str = Field("127.0.0.1", description="Address to listen on; 0.0.0.0 is every interface.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 picks a free one.")
    grpc_port: int = Field(
        0, ge=0, le=65535, description="Port for the Open Inference Protocol over gRPC; 0: none."
    )
    admin_token: SecretStr | None = Field(
        None, description="Token for admin routes; without one they answer the local machine alone."
    )

    admin_open: bool = Field(
        False, description="Without an admin token, let admin routes answer any machine."
    )
    inference_token: SecretStr | None = Field(
        None, description="Token for /predict and /models; without one they answer everybody."
    )
    allow_upload: bool = Field(
        False, description="Take versions for the repository over HTTP, from admins."
    )
    max_upload_bytes: int = Field(
        4 * 2**30,
        ge=1024,
        description="Largest version that is taken over HTTP, all files together.",
    )

    max_batch_size: int = Field(
        8, ge=1, le=256, description="Images of one padded shape that run together."
    )
    max_batch_pixels: int = Field(
        16_000_000,
        ge=1,
        description="Padded pixels that run together; one image may exceed it alone.",
    )
    max_wait_ms: float = Field(
        0.0, ge=0, le=10_000, description="How long an idle model waits for company; 0: not at all."
    )
    max_queue: int = Field(
        128, ge=1, le=100_000, description="Images in the house; one more is answered with 429."
    )
    request_timeout_s: float = Field(
        60.0, gt=0, description="A request that takes longer is answered with 504."
    )

    max_body_bytes: int = Field(64 * 2**20, ge=1024, description="Largest request body.")
    max_images: int = Field(32, ge=1, le=10_000, description="Images in one request.")
    max_pixels: int = Field(
        50_000_000, ge=1, le=PILLOW_MAX_PIXELS, description="Pixels of one image."
    )
    max_request_pixels: int = Field(
        400_000_000, ge=1, description="Pixels of all images of one request together."
    )
    max_tta_views: int = Field(
        24, ge=1, le=64, description="Views of one image in test-time augmentation."
    )
    max_tta_size: int = Field(
        1600, ge=32, le=10_000, description="Shorter side of a view in test-time augmentation."
    )
    max_tta_pixels: int = Field(
        40_000_000, ge=1, description="Pixels of all views of one image together."
    )
    max_tiles: int = Field(
        64, ge=1, le=10_000, description="Tiles of one image; each takes a place of max_queue."
    )
    max_detections_limit: int = Field(
        1000,
        ge=1,
        le=10_000,
        description="Instances of one image that a request may ask for, beyond what the model's config "
        "keeps.",
    )
    max_side: int = Field(16_384, ge=1, description="Longer side of one image.")
    max_frames: int = Field(
        1000, ge=1, description="Frames of an animation or pages of a TIFF; the first is used."
    )
    max_scans: int = Field(64, ge=1, description="Scans of a progressive JPEG.")
    body_timeout_s: float = Field(30.0, gt=0, description="Longest silence while a body arrives.")
    header_timeout_s: float = Field(
        10.0, gt=0, description="Longest time for the headers to arrive."
    )

    allow_urls: bool = Field(
        False, description="Fetch images that a request names by URL, from public addresses alone."
    )
    url_schemes: Annotated[list[Literal["https", "http"]], NoDecode, BeforeValidator(_paths)] = (
        Field(["https"], min_length=1, description="Of URLs: https, or https,http.")
    )
    url_ports: Annotated[
        list[Annotated[int, Field(ge=1, le=65535)]], NoDecode, BeforeValidator(_paths)
    ] = Field([443, 80], min_length=1, description="Ports that URLs may lead to.")
    url_hosts: Words = Field(
        default_factory=list,
        description="Hosts that URLs may lead to, such as img.example.org or *.example.org; default: "
        "all.",
    )
    url_timeout_s: float = Field(
        20.0, gt=0, le=600, description="Longest time that one URL may take, redirects included."
    )

    label_studio_url: str | None = Field(
        None,
        pattern=r"^https?://[^\s@/?#]+(/[^\s@?#]*)?$",
        description="Address of Label Studio as this server reaches it, such as "
        "http://label-studio:8080: the pictures of its tasks are fetched from there.",
    )
    label_studio_token: SecretStr | None = Field(
        None, description="Token of a user of Label Studio who may see the pictures."
    )

    max_batch_jobs: int = Field(
        4, ge=1, le=100, description="Jobs of /predict/batch that are taken in or run at a time."
    )
    max_batch_images: int = Field(
        10_000, ge=1, le=1_000_000, description="Images of one job of /predict/batch."
    )
    max_batch_bytes: int = Field(
        2 * 2**30,
        ge=1024,
        description="Disk space of all jobs of /predict/batch together, results included.",
    )
    batch_dir: Path | None = Field(
        None,
        description="Folder for the files of /predict/batch while they are needed; default: the "
        "system's folder for temporary files.",
    )
    batch_ttl_s: float = Field(
        3600.0, gt=0, description="How long the result of a job of /predict/batch is kept."
    )

    drain_delay_s: float = Field(
        0.0,
        ge=0,
        description="On SIGTERM: how long to go on accepting while not ready (5 in Kubernetes).",
    )
    drain_timeout_s: float = Field(
        30.0, ge=0, description="On SIGTERM: how long running requests may take."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least level logged."
    )
    log_json: bool = Field(False, description="Log one JSON object per line.")

    @field_validator("port", mode="before")
    @classmethod
    def _not_a_service_link(cls, value: Any) -> Any:
        """Kubernetes sets DETSERVE_PORT=tcp://... in every pod beside a Service called detserve."""
        return 8000 if _is_service_link(value) else value

    @field_validator("grpc_port", mode="before")
    @classmethod
    def _no_service_link(cls, value: Any) -> Any:
        """And DETSERVE_GRPC_PORT beside one called detserve-grpc."""
        return 0 if _is_service_link(value) else value

    @model_validator(mode="after")
    def _grpc_can_be_served(self) -> Settings:
        if self.grpc_port and self.grpc_port == self.port:
            raise ValueError("--grpc-port and --port are the same; gRPC needs a port of its own.")
        if self.grpc_port and not all(find_spec(name) for name in ("grpc", "google.protobuf")):
            raise ValueError("--grpc-port needs more packages: pip install 'detserve[grpc]'.")
        return self

    @model_validator(mode="after")
    def _two_tokens(self) -> Settings:
        given = (self.admin_token, self.inference_token)
        tokens = [token.get_secret_value().strip() for token in given if token is not None]
        if len(tokens) == 2 and tokens[0] == tokens[1] != "":
            raise ValueError(
                "--admin-token and --inference-token are the same: whoever may ask for predictions "
                "could then replace the model. Choose two."
            )
        return self

    @model_validator(mode="after")
    def _label_studio(self) -> Settings:
        if self.label_studio_token is not None and self.label_studio_url is None:
            raise ValueError(
                "--label-studio-token needs --label-studio-url: the token is sent there and nowhere else."
            )
        return self

    @model_validator(mode="after")
    def _config_and_weights(self) -> Settings:
        if self.repository is not None:
            others = {"config": self.config, "zoo": self.zoo, "weights": self.weights}
            for option in (key for key, value in others.items() if value is not None):
                raise ValueError(
                    f"--repository and --{option} exclude each other: the repository has the models."
                )
            if not self.repository.is_dir():
                raise ValueError(f"--repository: there is no folder {self.repository}.")
        elif self.watch_s > 0 or self.allow_upload:
            option = "--watch-s" if self.watch_s > 0 else "--allow-upload"
            raise ValueError(f"{option} needs --repository: versions come from there.")
        if self.zoo is not None:
            if self.config is not None:
                raise ValueError("--config and --zoo exclude each other: a model has one config.")
            if self.weights is None:
                raise ValueError(WEIGHTS_MISSING)
        elif self.config is not None and self.weights is None:
            raise ValueError("--config needs --weights too: a model is a config and its weights.")
        return self


def unknown_variables() -> list[str]:
    """Names in the environment and in ``.env`` that look like a setting and are none: misspelt ones."""
    prefix = str(Settings.model_config.get("env_prefix", ""))
    known = {
        (prefix + str(field.validation_alias or name)).upper()
        for name, field in Settings.model_fields.items()
    }
    given = {*os.environ, *(dotenv_values(".env") if Path(".env").is_file() else ())}
    # What Kubernetes adds for a Service called detserve.
    links = re.compile(rf"{prefix}(SERVICE_|PORT_|[A-Z0-9_]*_(SERVICE|PORT)(_|$))")
    return sorted(
        name
        for name in given
        if name.upper().startswith(prefix)
        and name.upper() not in known
        and not links.match(name.upper())
    )

"""Which model ``detserve evaluate`` was asked to measure, out of its options."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from models.evaluation import EvaluationError
from models.execution import MODES, Mode
from service.cli.evaluate_local import (
    FoundModel,
    LocalModel,
    embedded_model,
    find_model,
    named_files,
)
from service.cli.evaluate_remote import RemoteModel
from service.cli.evaluate_sources import AnswerSource
from service.settings import WEIGHTS_MISSING


@dataclass(frozen=True)
class Choice:
    """The options that name a model; None is one that is not given.

    Attributes:
        model: see :func:`service.cli.evaluate_local.find_model`, with ``repository``.
        config, zoo_name, weights, labels: files one by one.
        url, model_name, version, token: a server.
        device, mode: of a local one.
    """

    model: str | None = None
    repository: Path | None = None
    config: Path | None = None
    zoo_name: str | None = None
    weights: Path | None = None
    labels: Path | None = None
    url: str | None = None
    model_name: str | None = None
    version: str | None = None
    token: str | None = None
    device: str = "auto"
    mode: str = "exact"

    def check(self) -> None:
        """Raise :class:`EvaluationError` for options that exclude each other or need another one."""
        files = [
            f"--{name}"
            for name, value in (
                ("config", self.config),
                ("zoo", self.zoo_name),
                ("weights", self.weights),
                ("labels", self.labels),
            )
            if value is not None
        ]
        ways = [
            *(["--model"] if self.model is not None else []),
            *files[:1],
            *(["--url"] if self.url is not None else []),
        ]
        if len(ways) > 1:
            raise EvaluationError(
                f"{' and '.join(ways)} exclude each other: name one model, by its folder, by its files, "
                "or on a server."
            )
        if self.config is not None and self.zoo_name is not None:
            raise EvaluationError("--config and --zoo exclude each other: a model has one config.")
        if self.zoo_name is not None and self.weights is None:
            raise EvaluationError(WEIGHTS_MISSING)
        if files and self.weights is None:
            raise EvaluationError(
                f"{files[0]} needs --weights too: a model is a config and its weights."
            )
        if self.url is None and (self.model_name is not None or self.version is not None):
            raise EvaluationError("--model-name and --version are of a server: name it with --url.")
        if self.mode not in MODES:
            raise EvaluationError(f"--mode is one of {', '.join(MODES)}, not {self.mode!r}.")

    def against(self, name: str, version: str | None) -> Choice:
        """The other model: a server's address, or what ``--model`` takes."""
        if name.startswith(("http://", "https://")):
            same = name.rstrip("/") == (self.url or "").rstrip("/")
            return Choice(
                url=name,
                model_name=self.model_name if same else None,
                version=version,
                token=self.token,
            )
        if version is not None:
            raise EvaluationError(
                "--against-version is of a server; a folder names its version itself, as MODEL/VERSION."
            )
        return replace(
            Choice(device=self.device, mode=self.mode), model=name, repository=self.repository
        )

    def open(self) -> AnswerSource:
        """Load the model, or ask the server what it is.

        Raises:
            ModelError, ApiError: there is none, or it cannot be loaded.
        """
        if self.url is not None:
            return RemoteModel.connect(
                self.url, name=self.model_name, version=self.version, token=self.token
            )
        mode: Mode = next(mode for mode in MODES if mode == self.mode)
        return LocalModel.load(self._found(), device=self.device, mode=mode)

    def _found(self) -> FoundModel:
        if self.model is not None:
            return find_model(self.model, self.repository)
        if self.weights is not None:
            return named_files(self.config, self.zoo_name, self.weights, self.labels)
        return embedded_model()

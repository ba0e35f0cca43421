"""A running server for ``detserve evaluate``: asked as any client would, a few pictures at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import torch

from models.evaluation import EvaluationError
from models.structures import Boxes, Instances, RotatedBoxes
from service.cli.evaluate_sources import Picture, Subject
from service.client import Client, DetserveError, Model, PredictOptions, Retry, Unprocessable
from service.client import Prediction as Answer
from service.inference.detector import Prediction

PATIENCE = Retry(attempts=60, total_s=600.0)
"""An evaluation takes what a busy server leaves it, and waits."""

CONCURRENCY = 4
"""Requests that are on their way: the server has one to run and one to prepare."""


class RemoteModel:
    """A version on a server; see :class:`service.cli.evaluate_sources.AnswerSource`.

    Args:
        client: of the server; closed with this.
        url: for people.
        name: of the model; None: the first one served.
        version: by name or alias; None: the current one, which must stay the same until the end.

    Raises:
        EvaluationError: the server cannot be used, or has no such model.
    """

    def __init__(self, client: Client, url: str, name: str | None, version: str | None) -> None:
        self._client = client
        try:
            model = client.model(name) if name is not None else _first(client.models(), url)
        except DetserveError as error:
            raise EvaluationError(str(error)) from None
        self._answered: str | None = None
        self._classes = model.class_names
        label = model.aliases.get(version or "", version) or model.version
        is_current = label == model.version
        self._options: PredictOptions = {"model": model.name, "version": version, "masks": "rle"}
        # Of another version the server does not tell the threshold; it refuses 0 and says it then.
        self._options["score_threshold"] = model.score_threshold if is_current else 0.0
        thresholds = model.raw["thresholds"]
        most = thresholds.get("max_detections") or 0
        # What a request gets unless it asks may be less than what the model finds.
        if most > 0 and thresholds.get("default_max_detections") != most:
            self._options["max_detections"] = most
        self.subject = Subject(
            title=f"{model.name}, version {label}, at {url}",
            class_names=model.class_names,
            stuff_class_names=tuple(one["name"] for one in model.raw.get("stuff_classes", ())),
            outputs=model.outputs,
            score_threshold=model.score_threshold,
            input_format=str(model.raw.get("input", {}).get("format", "")),
            has_tta=model.raw.get("tta") is not None,
            takes_proposals=bool(model.raw.get("takes_proposals")),
            facts=_facts(model) if is_current else (),
        )

    @classmethod
    def connect(
        cls, url: str, *, name: str | None, version: str | None, token: str | None
    ) -> RemoteModel:
        """Ask a server what it serves.

        Raises:
            EvaluationError: there is no server, or it has no such model; or the address is none.
        """
        try:
            client = Client(url, token=token, timeout_s=300.0, retry=PATIENCE)
        except ValueError as error:
            raise EvaluationError(str(error)) from None
        try:
            return cls(client, url, name, version)
        except EvaluationError:
            client.close()
            raise

    def answers(self, pictures: Sequence[Picture], tta: str) -> Iterator[Prediction]:
        """See :class:`AnswerSource`; a busy server is asked again until it has time."""
        with ThreadPoolExecutor(CONCURRENCY) as pool:
            waiting: deque[Future[Prediction]] = deque()
            try:
                for place in range(len(pictures)):
                    for later in pictures[place + len(waiting) : place + 2 * CONCURRENCY]:
                        waiting.append(pool.submit(self._answer, later, tta))
                    yield waiting.popleft().result()
            finally:
                for future in waiting:
                    future.cancel()

    def _answer(self, picture: Picture, tta: str) -> Prediction:
        """One picture, on a thread of its own.

        Raises:
            EvaluationError: there is no answer, it is about another size, or another version's.
        """
        try:
            answer = self._predict(picture, tta)
            if answer.error is not None:
                raise answer.error
            self._require_same_model(answer)
            if picture.size not in (None, (answer.height, answer.width)):
                raise EvaluationError(
                    f"{picture.path.name} has {answer.width}x{answer.height} pixels to the server, which "
                    "is not what the data set says."
                )
            return as_prediction(answer)
        except DetserveError as error:
            raise EvaluationError(f"{picture.path.name}: {error}") from None
        except OSError as error:
            raise EvaluationError(
                f"{picture.path.name} cannot be read: {error.strerror}."
            ) from None

    def _predict(self, picture: Picture, tta: str) -> Answer:
        options: PredictOptions = {**self._options, "tta": tta}
        try:
            return self._client.predict(picture.path, **options)
        except Unprocessable as error:
            own = error.details.get("minimum")
            if error.code != "score_threshold_too_low" or own is None:
                raise
            # Threads that learn it at once write the same.
            self._options["score_threshold"] = options["score_threshold"] = float(own)
            return self._client.predict(picture.path, **options)

    def _require_same_model(self, answer: Answer) -> None:
        """Raise :class:`EvaluationError` unless one version answers all, and its classes are known."""
        if self._answered is None:
            self._answered = answer.version
        if answer.version != self._answered:
            raise EvaluationError(
                f"The server went from version {self._answered} to {answer.version} during the "
                "evaluation; name the one to be measured with --version."
            )
        if not answer.has("instances"):
            return
        found = answer.instances
        for class_id, name in zip(found.classes.tolist(), found.class_names, strict=True):
            if not (class_id < len(self._classes) and self._classes[class_id] == name):
                raise EvaluationError(
                    f"Version {answer.version} has another list of classes than the current one, which "
                    f"is all that the server tells: class {class_id} is {name!r}. Make it current, or "
                    "measure its folder with --model."
                )

    def close(self) -> None:
        """See :class:`AnswerSource`."""
        self._client.close()


def as_prediction(answer: Answer) -> Prediction:
    """A server's answer as a model here gives it; masks stay run lengths.

    Raises:
        DetserveError: what answers is no detserve.
    """
    instances = None
    if answer.has("instances"):
        found = answer.instances
        rotated = found.boxes.shape[1:] == (5,)
        boxes = torch.from_numpy(found.boxes)
        instances = Instances(
            found.image_size,
            pred_boxes=RotatedBoxes(boxes) if rotated else Boxes(boxes),
            scores=torch.from_numpy(found.scores),
            pred_classes=torch.from_numpy(found.classes),
        )
        if found.rles is not None:
            instances.pred_masks = list(found.rles)
        if found.keypoints is not None:
            instances.pred_keypoints = torch.from_numpy(found.keypoints)
    panoptic = None
    if answer.has("panoptic_seg"):
        map_ = answer.panoptic_seg
        panoptic = (torch.from_numpy(map_.ids), [dict(one) for one in map_.segments])
    semantic = torch.from_numpy(answer.sem_seg.ids) if answer.has("sem_seg") else None
    return Prediction(instances=instances, sem_seg=semantic, panoptic_seg=panoptic)


def _first(models: Sequence[Model], url: str) -> Model:
    if not models:
        raise EvaluationError(f"{url} serves no model.")
    return models[0]


def _facts(model: Model) -> tuple[tuple[str, str], ...]:
    weights = model.raw.get("weights") or {}
    return (
        ("architecture", model.architecture),
        ("weights", f"{weights.get('file', '')} (SHA-256 {str(weights.get('sha256', ''))[:12]})"),
        ("config", str(model.raw.get("config") or "")),
        ("runs on", f"{model.raw.get('device', '')}, {model.raw.get('precision', '')}"),
    )

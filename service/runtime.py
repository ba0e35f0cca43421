"""One server's parts, made from its settings and wired together; no state is global to the process."""

from __future__ import annotations

from pathlib import Path

from models import zoo
from models.device import resolve_device
from models.zoo import ZooModel
from service.allocator import give_back_free_memory
from service.batches.jobs import BatchJobs
from service.batches.spare_room import SpareRoom
from service.batches.spool import Spool
from service.errors import Unavailable
from service.images import ImageLimits
from service.inference.detector import Detector
from service.inference.loading import load_torch_detector
from service.inference.pipeline import Pipeline
from service.inference.scheduler import Scheduler
from service.inference.threads import Workers, divide_cores
from service.inference.work import draining, server_failed
from service.label_studio.images import TaskImages
from service.metrics import Metrics
from service.plugins import import_plugins
from service.repository.disk.folder import RepositoryFolder
from service.repository.disk.staging import remove_stale_uploads
from service.repository.house import House
from service.repository.repository import Repository
from service.repository.source import Loader, ModelSource
from service.repository.watch import Watch
from service.security import AdminGuard, InferenceGuard
from service.settings import PRETRAINED, Settings
from service.uploads import UploadLimits
from service.uploads.remote import RemoteLimits

STALLED_AFTER_S = 60.0
"""A batch that runs longer makes the server unready: the device hangs, or the machine is swamped."""


class Runtime:
    """Everything that the routes use.

    Args:
        settings: the server's settings.
        load: makes a detector out of files; tests give a fake one.
    """

    def __init__(self, settings: Settings, load: Loader | None = None) -> None:
        self.settings = settings
        self.device = resolve_device(settings.device)
        self.cores = divide_cores(settings.threads, on_gpu=self.device.type == "cuda")
        self.metrics = Metrics()
        self.scheduler = Scheduler(
            max_batch_size=settings.max_batch_size,
            max_batch_pixels=settings.max_batch_pixels,
            max_wait_s=settings.max_wait_ms / 1000,
            max_queue=settings.max_queue,
            model_threads=self.cores.model,
            observer=self.metrics,
        )
        self.workers = Workers(self.cores.workers)
        self.repository = Repository(
            House(
                scheduler=self.scheduler,
                load=load or self._load,
                observer=self.metrics,
                device=str(self.device),
                max_batch_pixels=settings.max_batch_pixels,
                keep_previous=settings.keep_previous == "memory",
                tidied=give_back_free_memory,
            ),
            folder=RepositoryFolder(settings.repository) if settings.repository else None,
            default=settings.name if settings.repository else None,
            watch=lambda name: self.metrics.watch(name, self.scheduler, settings.max_queue),
        )
        self.watch = Watch(self.repository, settings.watch_s, open=lambda: not self.draining)
        self.pipeline = Pipeline(
            workers=self.workers,
            scheduler=self.scheduler,
            limits=ImageLimits(
                max_pixels=settings.max_pixels,
                max_side=settings.max_side,
                max_frames=settings.max_frames,
                max_scans=settings.max_scans,
            ),
            max_request_pixels=settings.max_request_pixels,
            max_tta_pixels=settings.max_tta_pixels,
            max_tiles=settings.max_tiles,
            max_places=settings.max_queue,
            max_batch_size=settings.max_batch_size,
            metrics=self.metrics,
        )
        self.upload_limits = UploadLimits(
            max_body_bytes=settings.max_body_bytes,
            max_images=settings.max_images,
            body_timeout_s=settings.body_timeout_s,
            remote=remote_limits(settings) if settings.allow_urls else None,
        )
        label_studio_token = settings.label_studio_token
        self.task_images = TaskImages(
            remote_limits(settings),
            allow_urls=settings.allow_urls,
            url=settings.label_studio_url,
            token=label_studio_token.get_secret_value() if label_studio_token else None,
        )
        admin_token = settings.admin_token.get_secret_value() if settings.admin_token else None
        self.admin = AdminGuard(admin_token, opened=settings.admin_open)
        token = settings.inference_token
        self.inference = InferenceGuard(
            token.get_secret_value() if token else None, admin_token=admin_token
        )
        self.draining = False
        self.batches = BatchJobs(
            Spool(settings.batch_dir, settings.max_batch_bytes),
            SpareRoom(
                self.scheduler,
                most=min(settings.max_batch_size, settings.max_queue),
                is_draining=lambda: self.draining,
            ),
            most=settings.max_batch_jobs,
            ttl_s=settings.batch_ttl_s,
            is_draining=lambda: self.draining,
        )

    def _load(self, source: ModelSource) -> Detector:
        detector = load_torch_detector(
            config=source.config,
            weights=source.weights,
            labels=source.labels,
            device=str(self.device),
            root=source.root,
            mode=self.settings.mode,
            resize=self.settings.resize,
            settings=source.settings,
            max_detections_limit=self.settings.max_detections_limit,
        )
        give_back_free_memory()  # loading and trying the modes has needed more than serving will
        return detector

    @property
    def model_root(self) -> Path:
        """The folder that paths from HTTP must not leave."""
        settings = self.settings
        if self.repository.folder is not None:
            return self.repository.folder.root
        if settings.model_root is not None:
            return settings.model_root.resolve()
        beside = settings.config or settings.weights
        return (beside or PRETRAINED / "config.yaml").parent.resolve()

    def load(self) -> None:
        """Load the models of the repository, the one that the settings name, or the embedded one.

        Raises:
            ModelError, ApiError: one of them cannot be served.
        """
        settings = self.settings
        import_plugins(settings.plugins)
        self.batches.remove_stale()
        if self.repository.folder is not None:
            remove_stale_uploads(self.repository.folder.root)
            self.repository.open()
            if settings.watch_s > 0:
                self.watch.start()
            return
        config: Path | ZooModel | None = settings.config
        if settings.zoo is not None:
            config = zoo.get(settings.zoo)
        if settings.weights is None:
            source = ModelSource(
                PRETRAINED / "config.yaml", PRETRAINED / "model_final.pth", settings.labels
            )
        else:
            source = ModelSource(config, settings.weights, settings.labels)
        name = settings.name or _name_of(source)
        self.repository.add(name, source)

    def unready_reason(self) -> str | None:
        """Why traffic should go elsewhere; None when it may come."""
        if self.draining:
            return "the server is draining"
        failure = self.failure_reason()
        if failure is not None:
            return failure
        if not self.repository:
            return "no model is loaded yet"
        if all(model.lost for model in self.repository):
            return "no version of any model is loaded: a swap in place has failed"
        if self.scheduler.busy_for() > STALLED_AFTER_S:
            return f"the model has been busy with one batch for over {STALLED_AFTER_S:.0f} s"
        return None

    def failure_reason(self) -> str | None:
        """Why this process can serve no model any more and has to start anew; None when it can."""
        if self.scheduler.failure is not None:
            return self.scheduler.failure
        return None if self.scheduler.alive else "the model's thread has ended"

    def require_ready(self) -> None:
        """Raise :class:`Unavailable` when no prediction can be made."""
        if self.scheduler.failure is not None:
            raise server_failed(self.scheduler.failure)
        if not self.scheduler.alive:
            raise Unavailable("not_ready", "The model's thread has ended. Try another replica.")

    def require_open(self) -> None:
        """Raise :class:`Unavailable` when nothing new may begin."""
        self.require_ready()
        if self.draining:
            raise draining()

    def close(self) -> None:
        """Stop the threads and remove what is temporary."""
        self.batches.close()
        self.watch.stop()
        self.repository.close()
        self.scheduler.close()
        self.workers.close()


def remote_limits(settings: Settings) -> RemoteLimits:
    """Where the URLs of requests may lead."""
    return RemoteLimits(
        max_bytes=settings.max_body_bytes,
        total_s=settings.url_timeout_s,
        schemes=frozenset(settings.url_schemes),
        ports=frozenset(settings.url_ports),
        hosts=tuple(settings.url_hosts),
    )


def _name_of(source: ModelSource) -> str:
    """A name from the config's folder, the zoo or the weights, limited to what names may hold."""
    config = source.config
    if isinstance(config, ZooModel):
        return config.short_name
    raw = source.weights.stem if config is None else config.resolve().parent.name
    name = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "-" for c in raw)
    return name.lstrip("._-")[:64] or "model"

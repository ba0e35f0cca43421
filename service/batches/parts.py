"""How far a batch is, in parts: an image is one, or as many as it has tiles once it is cut."""

from __future__ import annotations

from service.inference.windows.progress import Tell


class BatchParts:
    """The parts of a job's images; on the event loop alone.

    Args:
        images: of the job.
    """

    def __init__(self, images: int) -> None:
        self._images = images
        self._ended_images = 0
        self._ended_parts = 0
        self._running: dict[int, tuple[int, int]] = {}  # by image: done, all

    def begin(self, index: int) -> Tell:
        """What is to be told how far an image is; none of it is done, though it was tried before."""
        if index in self._running:
            self._running[index] = (0, self._running[index][1])

        def tell(done: int, total: int) -> None:
            self._running[index] = (done, total)

        return tell

    def end(self, index: int) -> None:
        """An image has its answer, or its error: nothing of it is left."""
        _, total = self._running.pop(index, (0, 1))
        self._ended_images += 1
        self._ended_parts += total

    @property
    def ended(self) -> int:
        """Those of the images that have ended."""
        return self._ended_parts

    @property
    def done(self) -> int:
        """Those of the images that have ended, and of the others what is done."""
        return self._ended_parts + sum(done for done, _ in self._running.values())

    @property
    def total(self) -> int:
        """Those that are known so far: an image of which nothing was told yet counts as one."""
        return self._known_parts + self._images - self._known_images

    @property
    def left(self) -> float:
        """Those that may still come, if the images that are unknown have as many as the others."""
        mean = self._known_parts / self._known_images if self._known_images else 1.0
        unknown = self._images - self._known_images
        return self._known_parts - self.done + unknown * mean

    @property
    def _known_images(self) -> int:
        return self._ended_images + len(self._running)

    @property
    def _known_parts(self) -> int:
        return self._ended_parts + sum(total for _, total in self._running.values())

"""How far a request has come, for whoever shows it: images, and of large ones their tiles."""

from __future__ import annotations

from collections.abc import Callable

Tell = Callable[[int, int], None]
"""Called on the event loop with the parts that are done and those that are known so far; what it raises
is the image's error."""


class Progress:
    """Parts of a request: an image is one until it turns out to have tiles.

    Args:
        images: of the request.
        tell: is told of every change; None is nobody.
    """

    def __init__(self, images: int, tell: Tell | None = None) -> None:
        self.done = 0
        self.total = images
        self._tell = tell

    def image(self) -> ImageProgress:
        """The part of one image."""
        return ImageProgress(self)

    def change(self, *, done: int = 0, total: int = 0) -> None:
        """Add to what is done, and to what there is."""
        self.done += done
        self.total += total
        if self._tell is not None and (done or total):
            self._tell(self.done, self.total)


class ImageProgress:
    """Of one image."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._left = 1

    def plan(self, parts: int) -> None:
        """It has so many parts, of which none is done."""
        more, self._left = parts - self._left, parts
        self._progress.change(total=more)

    def step(self) -> None:
        """One of its parts is done."""
        self._left -= 1
        self._progress.change(done=1)

    def finish(self) -> None:
        """Nothing more will be done: the image is answered, or has failed."""
        left, self._left = self._left, 0
        self._progress.change(done=left)

"""From the bytes of an image to what a model takes: all that a worker does before the model runs."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import threading
import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.encoding.instances import Selection
from service.errors import TooLarge
from service.images import ImageLimits, decode_image
from service.inference.detector import PreparedImage
from service.inference.windows.grid import Tiling, plan_tiles
from service.inference.windows.tiled import TiledPicture
from service.inference.windows.window import Window, region_of
from service.repository.version import ModelVersion
from service.schemas.options import PredictOptions
from service.schemas.window_options import region_corners


class RequestShare:
    """What one request may take of the workers, so that a large one does not stop the others.

    At most as many of its images are decoded or wait for a worker as there are workers, and all of
    them together have a budget of pixels. Its pictures go into tiles one after the other.
    """

    def __init__(self, *, images: int, workers: int, max_pixels: int) -> None:
        self.images = images
        self.turn = asyncio.Semaphore(workers)
        self.tiled_turn = asyncio.Semaphore(1)
        self._max_pixels = max_pixels
        self._spent = 0
        self._lock = threading.Lock()

    def spend(self, pixels: int) -> None:
        """Take ``pixels`` of the budget, on a worker. Raises :class:`TooLarge` when it is spent."""
        with self._lock:
            if self._spent + pixels > self._max_pixels:
                raise TooLarge(
                    "too_many_pixels",
                    f"The images of this request have more than {self._max_pixels} pixels together; "
                    "send this one in a request of its own.",
                    limit=self._max_pixels,
                    value=self._spent + pixels,
                )
            self._spent += pixels


@dataclass(frozen=True)
class Seen:
    """What the model sees of a picture of this height and width."""

    window: Window
    height: int
    width: int


class Preparation:
    """Decodes and prepares images, within the limits; its methods run on a worker.

    Args:
        limits: on one image.
        max_tta_pixels: of all views of one image, or tile.
        max_tiles: of one image.
        max_places: that the images of one request and the tiles of one of them may take together.
    """

    def __init__(
        self, limits: ImageLimits, *, max_tta_pixels: int, max_tiles: int, max_places: int
    ) -> None:
        self._limits = limits
        self._max_tta_pixels = max_tta_pixels
        self._max_tiles = max_tiles
        self._max_places = max_places

    def _admit_views(self, pixels: int, share: RequestShare) -> None:
        """The bounds on all views of one image, and on the request."""
        if pixels > self._max_tta_pixels:
            raise TooLarge(
                "too_many_view_pixels",
                f"The views of this image have {pixels} pixels together; the limit is "
                f"{self._max_tta_pixels}. Name fewer or smaller sizes in tta.",
                limit=self._max_tta_pixels,
                value=pixels,
            )
        share.spend(pixels)

    def prepare(
        self,
        data: bytes,
        index: int,
        options: PredictOptions,
        share: RequestShare,
        version: ModelVersion,
    ) -> tuple[PreparedImage, Seen, float]:
        """Decode and prepare for ``version``; on a worker. Also the seconds that it took."""
        started = time.monotonic()
        selection = Selection.resolve(options, version.detector.description)
        pixels = decode_image(data, self._limits, admit=share.spend).pixels
        height, width = pixels.shape[:2]
        window = region_of(selection.region, height, width)
        prepared = self._prepare_window(
            selection, share, _proposals(options, index), pixels, window, version
        )
        return prepared, Seen(window, height, width), time.monotonic() - started

    def _prepare_window(
        self,
        selection: Selection,
        share: RequestShare,
        proposals: NDArray[np.float32] | None,
        pixels: NDArray[np.uint8],
        window: Window,
        version: ModelVersion,
    ) -> PreparedImage:
        """Prepare a part of a decoded picture for ``version``; on a worker."""
        if selection.tta is not None:
            self._admit_views(selection.tta.pixels(window.height, window.width), share)
        prepared = version.detector.prepare(
            window.crop(pixels), tta=selection.tta, proposals=window.proposals(proposals)
        )
        return dataclasses.replace(prepared, wanted=selection.wanted)

    def cut(
        self,
        data: bytes,
        index: int,
        options: PredictOptions,
        share: RequestShare,
        version: ModelVersion,
    ) -> tuple[TiledPicture, float]:
        """Decode a picture and plan its tiles, for ``version``; on a worker. Also the seconds."""
        started = time.monotonic()
        model = version.detector.description
        selection = Selection.resolve(options, model)
        pixels = decode_image(data, self._limits, admit=share.spend).pixels
        grid = plan_tiles(
            region_of(selection.region, *pixels.shape[:2]),
            selection.tiles or Tiling(),
            min_size=model.min_size,
            max_size=model.max_size,
            # The image itself has a place already, and so have the others of its request.
            most=min(self._max_tiles, self._max_places - share.images + 1),
        )
        prepare = functools.partial(self._prepare_tile, index, options, share)
        picture = TiledPicture(pixels, grid, prepare, selection.wanted.nms_threshold)
        return picture, time.monotonic() - started

    def _prepare_tile(
        self,
        index: int,
        options: PredictOptions,
        share: RequestShare,
        pixels: NDArray[np.uint8],
        window: Window,
        version: ModelVersion,
    ) -> PreparedImage:
        """Prepare a tile for ``version``; on a worker. A request's bound on instances is one on those of
        all tiles together, so of each tile all are wanted."""
        selection = Selection.resolve(options, version.detector.description)
        wanted = dataclasses.replace(selection.wanted, max_detections=-1)
        selection = dataclasses.replace(selection, wanted=wanted)
        proposals = _proposals(options, index)
        return self._prepare_window(selection, share, proposals, pixels, window, version)

    def prepare_again(
        self, index: int, options: PredictOptions, data: bytes, version: ModelVersion
    ) -> PreparedImage:
        """Prepare an answered image for a version in the shadow; on a worker. What it is asked for, the
        shadow says, and the request's budget is not touched: the request may have ended."""
        pixels = decode_image(data, self._limits).pixels
        window = region_of(region_corners(options.region), *pixels.shape[:2])
        return version.detector.prepare(
            window.crop(pixels), proposals=window.proposals(_proposals(options, index))
        )


def _proposals(options: PredictOptions, index: int) -> NDArray[np.float32] | None:
    """(P, 4) float32 XYXY in pixels of image ``index``, for a model that takes them."""
    if options.proposals is None:
        return None
    return np.array(options.proposals[index], dtype=np.float32).reshape(-1, 4)

"""What an image may cost: sides, pixels, frames and scans, checked against its header before a
decoder sees the file, because no decoder can be interrupted.
"""

from __future__ import annotations

from dataclasses import dataclass

from service.errors import TooLarge, Unprocessable

# Pillow warns from this many pixels on and refuses at twice as many, by a number of its own that
# is global to the process; a higher limit of ours would never take effect.
PILLOW_MAX_PIXELS = 89_478_485


@dataclass(frozen=True, kw_only=True)
class ImageHeader:
    """What the header of an image says, and the bytes that a decoder may see.

    Attributes:
        width: pixels, as stored (before the EXIF orientation).
        height: pixels, as stored.
        content: the file without the metadata that pixels do not need.
        orientation: EXIF orientation, 1 to 8.
        frames: pictures in the file; counting stops one above the limit.
        scans: passes over the picture (JPEG); counting stops one above the limit.
    """

    width: int
    height: int
    content: bytes
    orientation: int = 1
    frames: int = 1
    scans: int = 1


@dataclass(frozen=True, kw_only=True)
class ImageLimits:
    """Limits on one image; an image at a limit is allowed, one above it is refused.

    Attributes:
        max_pixels: width times height.
        max_side: pixels of the longer side.
        min_side: pixels of the shorter side.
        max_frames: pictures in an animation or a multi-page file, of which the first is used.
        max_scans: scans of a JPEG; encoders write about 10.
        max_scan_pixels: scans times pixels of a JPEG of several scans. A scan of 40 bytes costs a
            pass over the whole picture: measured with libjpeg-turbo on one core of a server CPU,
            0.2 to 1 ns per pixel for scans without data, at most 8 ns for scans full of noise. So
            the default is about 1 s for a bomb of some kilobytes and 8 s for the worst file of
            any length; 50 megapixels still have twice the scans that encoders write.

    Raises:
        ValueError: a limit is not positive, or ``max_pixels`` is above what Pillow reads.
    """

    max_pixels: int = 50_000_000
    max_side: int = 16_384
    min_side: int = 1
    max_frames: int = 1000
    max_scans: int = 64
    max_scan_pixels: int = 1_000_000_000

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1")
        if self.max_pixels > PILLOW_MAX_PIXELS:
            raise ValueError(
                f"max_pixels is {self.max_pixels}; the decoder reads at most {PILLOW_MAX_PIXELS}"
            )

    def check(self, header: ImageHeader) -> None:
        """Refuses an image that its header shows to be over a limit.

        Raises:
            TooLarge: ``image_too_large``, ``too_many_frames`` or ``too_many_scans``.
            Unprocessable: ``image_too_small``, or ``invalid_image`` for a picture without area.
        """
        self.check_size(header.width, header.height)
        if header.frames > self.max_frames:
            raise TooLarge(
                "too_many_frames",
                f"The file holds more than {self.max_frames} frames or pages, which is the limit; "
                "send the frame to look at as an image of its own.",
                limit=self.max_frames,
                value=header.frames,
            )
        if header.scans > self.max_scans:
            raise TooLarge(
                "too_many_scans",
                f"The JPEG has more than {self.max_scans} scans, which is the limit; "
                "save it as a baseline JPEG.",
                limit=self.max_scans,
                value=header.scans,
            )
        scan_pixels = header.scans * header.width * header.height
        if header.scans > 1 and scan_pixels > self.max_scan_pixels:
            raise TooLarge(
                "too_many_scans",
                f"The JPEG has {header.scans} scans of {header.width} x {header.height} pixels, "
                f"{scan_pixels} in all; the limit is {self.max_scan_pixels}. "
                "Save it as a baseline JPEG, or make it smaller.",
                limit=self.max_scan_pixels,
                value=scan_pixels,
            )

    def check_size(self, width: int, height: int) -> None:
        """The part of :meth:`check` that concerns the size in pixels."""
        if width < 1 or height < 1:
            raise Unprocessable(
                "invalid_image",
                f"The image is {width} x {height} pixels, so there is nothing in it; "
                "send an image with at least one pixel.",
                width=width,
                height=height,
            )
        if max(width, height) > self.max_side:
            raise TooLarge(
                "image_too_large",
                f"The image is {width} x {height} pixels; the limit for a side is "
                f"{self.max_side}. Make it smaller and send it again.",
                limit=self.max_side,
                value=max(width, height),
                width=width,
                height=height,
            )
        if width * height > self.max_pixels:
            raise TooLarge(
                "image_too_large",
                f"The image is {width} x {height}, {width * height} pixels; the limit is "
                f"{self.max_pixels}. Make it smaller and send it again.",
                limit=self.max_pixels,
                value=width * height,
                width=width,
                height=height,
            )
        if min(width, height) < self.min_side:
            raise Unprocessable(
                "image_too_small",
                f"The image is {width} x {height} pixels; each side must have at least "
                f"{self.min_side}. Send a larger image.",
                limit=self.min_side,
                value=min(width, height),
                width=width,
                height=height,
            )

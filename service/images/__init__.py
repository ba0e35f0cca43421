"""Image bytes become RGB pixels here; every limit on what a client may send as an image is checked
in this package, from the file's header, before anything is decoded.
"""

from service.images.decoding import DecodedImage, decode_image
from service.images.limits import ImageLimits

__all__ = ["DecodedImage", "ImageLimits", "decode_image"]

"""The body of a request -> the images in it, in memory, every limit counted on the wire.

``read_uploads`` is the one entry for routes that take images, ``fetch_uploads`` then gets those that
are named by URL; ``read_body`` and ``read_json`` serve the routes that read their own JSON under the
same limits.
"""

from service.uploads.body import read_body
from service.uploads.fetching import fetch_uploads
from service.uploads.json_body import parse_json, read_json
from service.uploads.reader import read_uploads
from service.uploads.upload import ParsedBody, Upload, UploadLimits

__all__ = [
    "ParsedBody",
    "Upload",
    "UploadLimits",
    "fetch_uploads",
    "parse_json",
    "read_body",
    "read_json",
    "read_uploads",
]

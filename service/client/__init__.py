"""A typed client of a running server, sync and async; it imports neither PyTorch nor the server.

::

    from service.client import Client

    with Client("http://127.0.0.1:8000") as client:
        instances = client.predict("photo.jpg", score_threshold=0.5).instances
"""

try:
    import httpx as _httpx  # noqa: F401  # only to say what is missing
except ModuleNotFoundError as error:
    if error.name != "httpx":
        raise
    raise ModuleNotFoundError("The client needs httpx: pip install httpx", name="httpx") from None

from service.client.answers import ModelVersion, Prediction, Proposals
from service.client.async_client import AsyncClient
from service.client.errors import (
    BadRequest,
    Conflict,
    DeadlineMissed,
    DetserveError,
    Forbidden,
    InvalidAnswer,
    NoConnection,
    NotFound,
    NotReady,
    OutOfDeviceMemory,
    QueueFull,
    ReloadFailed,
    ServerFailed,
    TooLarge,
    Unauthorized,
    Unprocessable,
    UnsupportedImage,
)
from service.client.images import ImageSource
from service.client.instances import Instances
from service.client.options import PredictOptions
from service.client.retry import Retry
from service.client.rle import decode_rle
from service.client.segmentation import SegmentMap
from service.client.served import Model, Reload
from service.client.sync_client import Client

__all__ = [
    "AsyncClient",
    "BadRequest",
    "Client",
    "Conflict",
    "DeadlineMissed",
    "DetserveError",
    "Forbidden",
    "ImageSource",
    "Instances",
    "InvalidAnswer",
    "Model",
    "ModelVersion",
    "NoConnection",
    "NotFound",
    "NotReady",
    "OutOfDeviceMemory",
    "PredictOptions",
    "Prediction",
    "Proposals",
    "QueueFull",
    "Reload",
    "ReloadFailed",
    "Retry",
    "SegmentMap",
    "ServerFailed",
    "TooLarge",
    "Unauthorized",
    "Unprocessable",
    "UnsupportedImage",
    "decode_rle",
]

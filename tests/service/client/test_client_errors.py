"""DetserveError: what a program and a person read in it."""

import pickle

import pytest

import service.errors
from service.client import errors

SERVER_CLASSES = [
    kind for kind in vars(service.errors).values()
    if isinstance(kind, type) and issubclass(kind, service.errors.ApiError)
]  # fmt: skip


def of(status: int, body: bytes) -> errors.DetserveError:
    return errors.error_from_answer(
        status, body, retry_after=None, request_id="mine", url="http://host"
    )


def test_an_error_has_all_that_the_server_says() -> None:
    body = b"""{"error": {"code": "unknown_class", "message": "The model has no class 'car'.",
               "request_id": "4f1c", "details": {"value": "car"}}}"""
    error = of(422, body)
    assert type(error) is errors.Unprocessable
    assert (error.code, error.status, error.request_id) == ("unknown_class", 422, "4f1c")
    assert error.details == {"value": "car"}
    assert str(error) == "The model has no class 'car'. (unknown_class, request 4f1c)"


@pytest.mark.parametrize("kind", SERVER_CLASSES, ids=lambda kind: kind.__name__)
def test_every_status_of_the_server_is_an_error_here(kind: type[service.errors.ApiError]) -> None:
    error = of(kind.status, b'{"error": {"code": "c", "message": "m"}}')
    assert isinstance(error, errors.DetserveError)
    assert (error.status, error.request_id) == (kind.status, "mine")
    # 408 and 499 end connections that are lost; 406 asks for a form that this client never asks for.
    assert type(error) is not errors.DetserveError or kind.status in (406, 408, 499)


def test_an_error_travels_between_processes() -> None:
    error = of(429, b'{"error": {"code": "queue_full", "message": "Full.", "details": {"a": 1}}}')
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is errors.QueueFull
    assert str(copy) == str(error)
    assert vars(copy) == vars(error)

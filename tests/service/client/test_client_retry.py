"""Retries: what is asked again, after how long, and when it ends. No time passes here."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpx
import pytest

from service.client import (
    DeadlineMissed,
    NoConnection,
    NotReady,
    QueueFull,
    Retry,
    ServerFailed,
    Unprocessable,
)
from service.client.flows import Flow, Send, exchange

REQUEST = Send("POST", "http://host/predict", headers={"X-Request-ID": "abc"}, timeout_s=60)
REFUSED = httpx.ConnectError("[Errno 111] Connection refused")
BROKEN = httpx.RemoteProtocolError("Server disconnected without sending a response.")


def answer(status: int, code: str = "x", **headers: str) -> httpx.Response:
    body = {"error": {"code": code, "message": f"It is {code}.", "request_id": "abc"}}
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.Response(status, json=body, headers=names)


def ask(driver: Any, retry: Retry, **options: Any) -> Flow[httpx.Response]:
    return exchange(REQUEST, retry=retry, clock=driver.clock, **options)


MOST = Retry(attempts=4, base_s=1.0, max_s=3.0, total_s=100.0, jitter=lambda: 1.0)


@pytest.mark.parametrize(
    "failure",
    [answer(429), answer(503), REFUSED, BROKEN, httpx.ReadError(""), httpx.ConnectTimeout("")],
    ids=["429", "503", "refused", "disconnected", "read error", "connect timeout"],
)
def test_it_is_sent_again_until_it_is_answered(drive: Callable[..., Any], failure: Any) -> None:
    driver = drive([failure, failure, answer(200)])
    assert driver(ask(driver, MOST)).status_code == 200
    assert driver.sent == [REQUEST] * 3


def test_pauses_double_up_to_the_largest(drive: Callable[..., Any]) -> None:
    driver = drive([answer(503)] * 4)
    with pytest.raises(NotReady):
        driver(ask(driver, MOST))
    assert driver.pauses == [1.0, 2.0, 3.0]


def test_jitter_is_of_the_whole_pause(drive: Callable[..., Any]) -> None:
    drawn = iter([0.0, 0.25, 0.5])
    driver = drive([answer(503)] * 4)
    retry = Retry(attempts=4, base_s=1.0, max_s=3.0, jitter=lambda: next(drawn))
    with pytest.raises(NotReady):
        driver(ask(driver, retry))
    assert driver.pauses == [0.0, 0.5, 1.5]


def test_retry_after_is_waited_in_full_and_jitter_comes_on_top(drive: Callable[..., Any]) -> None:
    driver = drive([answer(429, Retry_After="7"), answer(200)])
    driver(ask(driver, MOST))
    assert driver.pauses == [8.0]


def test_retry_after_may_be_a_date(drive: Callable[..., Any]) -> None:
    moment = format_datetime(datetime.now(UTC) + timedelta(seconds=50), usegmt=True)
    driver = drive([answer(503, Retry_After=moment), answer(200)])
    driver(ask(driver, Retry(total_s=100.0, jitter=lambda: 0.0)))
    assert 30 < driver.pauses[0] <= 50


@pytest.mark.parametrize("value", ["soon", "nan", "-5", "inf", ""])
def test_a_strange_retry_after_is_none(drive: Callable[..., Any], value: str) -> None:
    driver = drive([answer(429, Retry_After=value), answer(200)])
    driver(ask(driver, MOST))
    assert driver.pauses == [1.0]


def test_the_attempts_are_counted_and_the_last_error_is_raised(drive: Callable[..., Any]) -> None:
    driver = drive([REFUSED, answer(503), answer(503), answer(429, "queue_full", Retry_After="1")])
    with pytest.raises(QueueFull) as caught:
        driver(ask(driver, MOST))
    assert (caught.value.code, caught.value.status) == ("queue_full", 429)
    assert caught.value.retry_after_s == 1.0
    assert len(driver.sent) == 4


def test_no_try_begins_behind_the_total_time(drive: Callable[..., Any]) -> None:
    driver = drive([answer(429, Retry_After="20")] * 9)
    retry = Retry(attempts=9, total_s=50, jitter=lambda: 0.0)
    with pytest.raises(QueueFull):
        driver(ask(driver, retry))
    assert driver.pauses == [20.0, 20.0]


def test_a_wait_that_is_too_long_is_not_begun(drive: Callable[..., Any]) -> None:
    driver = drive([answer(429, Retry_After="3600")])
    with pytest.raises(QueueFull, match=r"It is x\. \(x, request abc\)"):
        driver(ask(driver, MOST))
    assert driver.pauses == []


@pytest.mark.parametrize("status", [400, 401, 404, 409, 413, 415, 422, 500, 502, 504, 507])
def test_other_errors_are_final(drive: Callable[..., Any], status: int) -> None:
    driver = drive([answer(status)])
    with pytest.raises(Exception, match="It is x"):
        driver(ask(driver, MOST))
    assert len(driver.sent) == 1


@pytest.mark.parametrize("silence", [httpx.ReadTimeout(""), httpx.WriteTimeout("")])
def test_a_silent_server_is_not_given_the_same_work_twice(
    drive: Callable[..., Any], silence: Exception
) -> None:
    driver = drive([silence])
    with pytest.raises(DeadlineMissed, match="within 60 s; give a larger timeout_s") as caught:
        driver(ask(driver, MOST))
    assert (caught.value.code, caught.value.request_id) == ("client_timeout", "abc")
    assert caught.value.__cause__ is silence


def test_no_connection_says_what_the_system_says(drive: Callable[..., Any]) -> None:
    driver = drive([REFUSED])
    with pytest.raises(NoConnection, match=r"http://host/predict cannot be reached: .*refused"):
        driver(ask(driver, Retry(attempts=1)))


# --- what must not be done twice ------------------------------------------------------------------


@pytest.mark.parametrize(
    "failure",
    [answer(429), answer(503, "draining"), answer(503, "not_ready"), REFUSED],
    ids=["429", "draining", "not ready", "refused"],
)
def test_a_change_is_asked_for_again_where_nothing_began(
    drive: Callable[..., Any], failure: Any
) -> None:
    driver = drive([failure, answer(200)])
    driver(ask(driver, MOST, idempotent=False))
    assert len(driver.sent) == 2


@pytest.mark.parametrize(
    "failure",
    [answer(503, "shutting_down"), httpx.Response(503, text="proxy"), BROKEN, httpx.ReadError("")],
    ids=["cut off", "proxy", "disconnected", "read error"],
)
def test_a_change_that_may_have_begun_is_not_asked_for_again(
    drive: Callable[..., Any], failure: Any
) -> None:
    driver = drive([failure])
    with pytest.raises((NotReady, NoConnection)):
        driver(ask(driver, MOST, idempotent=False))
    assert len(driver.sent) == 1


# --- deadlines ------------------------------------------------------------------------------------


def test_each_try_tells_the_server_what_is_left_of_the_deadline(drive: Callable[..., Any]) -> None:
    driver = drive([answer(429), answer(429), answer(200)])
    driver.reply_s = 0.5
    driver(ask(driver, MOST, deadline_s=10.0))
    told = [send.headers["X-Request-Timeout-Ms"] for send in driver.sent]
    assert told == ["10000", "8500", "6000"]
    assert [send.timeout_s for send in driver.sent] == [10.0, 8.5, 6.0]


def test_behind_the_deadline_nothing_is_tried(drive: Callable[..., Any]) -> None:
    driver = drive([answer(503), answer(503)])
    with pytest.raises(NotReady):
        driver(ask(driver, MOST, deadline_s=2.0))
    assert driver.pauses == [1.0]


def test_a_missed_deadline_names_it(drive: Callable[..., Any]) -> None:
    driver = drive([httpx.ReadTimeout("")])
    with pytest.raises(DeadlineMissed, match="within the 2 s of deadline_s"):
        driver(ask(driver, MOST, deadline_s=2.0))


def test_without_a_deadline_the_server_is_told_none(drive: Callable[..., Any]) -> None:
    driver = drive([answer(200)])
    driver(ask(driver, MOST))
    assert "X-Request-Timeout-Ms" not in driver.sent[0].headers


# --- errors ---------------------------------------------------------------------------------------


def test_an_answer_that_is_not_ours_is_named_by_its_status(drive: Callable[..., Any]) -> None:
    driver = drive([httpx.Response(502, text="<html>Bad Gateway</html>")])
    with pytest.raises(ServerFailed, match="answers 502 without saying why") as caught:
        driver(ask(driver, MOST))
    assert (caught.value.code, caught.value.request_id) == ("http_502", "abc")


@pytest.mark.parametrize("body", ["[]", '{"error": "no"}', '{"error": {"code": 1, "message": 2}}'])
def test_json_of_others_is_no_error_of_ours(drive: Callable[..., Any], body: str) -> None:
    driver = drive([httpx.Response(422, text=body)])
    with pytest.raises(Unprocessable) as caught:
        driver(ask(driver, MOST))
    assert caught.value.code == "http_422"


@pytest.mark.parametrize(
    "bounds", [{"attempts": 0}, {"total_s": -1}, {"base_s": float("nan")}, {"max_s": -0.1}]
)
def test_bounds_that_are_none_are_refused(bounds: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"attempts|seconds"):
        Retry(**bounds)

"""``detserve models`` through a server: what it sends, and how it tells what came back."""

import json
from typing import Any

import pytest
from admin_server import FakeServer, run


def job(**values: Any) -> dict[str, Any]:
    return {"id": "abc", "model": "shapes", "state": "running", "candidate": "2"} | values


def test_versions_are_listed_with_their_states(server: FakeServer) -> None:
    versions = [
        {"version": "1", "state": "ready", "current": True, "aliases": ["stable", "ours"]},
        {"version": "2", "state": "failed", "current": False, "aliases": [], "reason": "NaN [x]"},
    ]
    models = [{"name": "shapes", "versions": versions}]
    server.on("GET /models", (200, {"default": "shapes", "models": models}))
    code, output = run(server, "list")
    assert code == 0
    assert [line.split() for line in output.splitlines()] == [
        ["model", "version", "state", "current", "aliases", "reason"],
        ["shapes", "1", "ready", "*", "stable,", "ours"],
        ["shapes", "2", "failed", "NaN", "[x]"],
    ]


def test_json_is_the_servers(server: FakeServer) -> None:
    answer = {"name": "shapes", "versions": [], "more": {"a": [1, None]}}
    server.on("GET /models/shapes", (200, answer))
    code, output = run(server, "list", "shapes", "--json")
    assert (code, json.loads(output)) == (0, answer)


def test_the_token_is_sent_and_comes_from_the_environment_too(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.on("GET /models", (200, {"models": []}))
    run(server, "list")
    monkeypatch.setenv("DETSERVE_ADMIN_TOKEN", "secret")
    run(server, "list")
    run(server, "list", "--token", "other")
    sent = [request.headers.get("Authorization") for request in server.requests]
    assert sent == [None, "Bearer secret", "Bearer other"]


def test_a_path_before_the_servers_own_is_kept(server: FakeServer) -> None:
    server.on("GET /vision/models", (200, {"models": []}))
    server.url += "/vision/"
    assert run(server, "list")[0] == 0


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ((401, {"error": {"code": "x", "message": "The admin token is wrong."}}), "token is wrong"),
        ((502, b"<html>"), "answers 502 without JSON"),
        ((200, [1]), "without JSON"),
        ((500, {"detail": "?"}), "answers 500"),
        ((302, {}), "answers 302"),
    ],
)
def test_a_refusal_is_one_sentence(
    server: FakeServer, answer: tuple[int, Any], message: str
) -> None:
    server.on("GET /models", answer)
    code, output = run(server, "list")
    assert code == 1
    assert output.startswith("error: ")
    assert message in output


def test_a_server_that_is_not_there_is_told(server: FakeServer) -> None:
    server.url = "http://127.0.0.1:1"
    code, output = run(server, "list")
    assert code == 1
    assert "cannot be reached: Connection refused" in output


# --- promote and rollback -------------------------------------------------------------------------


def test_a_promotion_is_followed_to_its_end(server: FakeServer) -> None:
    server.on("POST /reload", (202, job(phase="preflight", phases_s={})))
    phases = {"preflight": 0.5, "load": 1.25}
    server.on(
        "GET /reload/abc",
        (200, job(phase="load", progress=0.5, phases_s={"preflight": 0.5})),
        (200, job(phase="check", phases_s=phases)),
        (
            200,
            job(
                state="succeeded",
                outcome="swapped",
                phase="done",
                version="2",
                previous_version="1",
                freed_bytes=4_500_000,
                phases_s=phases | {"check": 2.0},
            ),
        ),
    )
    code, output = run(server, "promote", "shapes", "candidate")
    assert code == 0, output
    assert server.requests[0].json == {"model": "shapes", "version": "candidate", "wait": False}
    assert server.requests[0].headers["Content-Type"] == "application/json"
    assert "Origin" not in server.requests[0].headers
    lines = [line.split() for line in output.splitlines() if line.strip()]
    assert ["preflight", "0.50", "s"] in lines
    assert ["load", "1.25", "s"] in lines
    assert "shapes: 2 is current; 4.5 MB of 1 freed." in output


def test_what_a_promotion_is_held_to_goes_to_the_server(server: FakeServer) -> None:
    done = job(state="succeeded", outcome="dry_run", phase="done", phases_s={})
    server.on("POST /reload", (200, done))
    options = [
        "--dataset",
        "val.json",
        "--images",
        "val",
        "--min-ap",
        "40",
        "--max-drop",
        "1.5",
        "--dry-run",
    ]
    more = ["--allow-class-changes", "--strategy", "in_place"]
    code, output = run(server, "promote", "shapes", "2", *options, *more)
    assert code == 0
    assert server.requests[0].json == {
        "model": "shapes",
        "version": "2",
        "wait": False,
        "dry_run": True,
        "allow_class_changes": True,
        "strategy": "in_place",
        "gate": {"dataset": "val.json", "images": "val", "min_ap": 40.0, "max_drop": 1.5},
    }
    assert "2 passes; nothing was changed" in output
    run(server, "promote", "shapes", "2", "--no-gate")
    assert server.requests[1].json["gate"] is False


def test_what_is_current_already_is_told(server: FakeServer) -> None:
    done = job(state="succeeded", outcome="unchanged", version="2", phases_s={})
    server.on("POST /reload", (202, done))
    assert "2 is current already" in run(server, "promote", "shapes", "2")[1]


def test_a_gate_that_fails_shows_its_figures(server: FakeServer) -> None:
    figures = {"AP": 12.5, "AP50": 20.0, "AP75": None, "APs": None}
    gate = {
        "passed": False,
        "iou_type": "segm",
        "candidate": {"figures": {"segm": figures}},
        "current": {"figures": {"segm": {"AP": 61.25, "AP50": 80.0}}},
    }
    error = {"code": "gate_failed", "message": "AP drops by 48.75.", "details": {"gate": gate}}
    server.on("POST /reload", (202, job(state="failed", error=error, phases_s={})))
    code, output = run(server, "promote", "shapes", "2")
    assert code == 1
    rows = [line.split() for line in output.splitlines()]
    assert ["new", "current"] in rows
    assert ["AP", "12.50", "61.25"] in rows
    assert ["AP50", "20.00", "80.00"] in rows
    assert not any(row[:1] == ["AP75"] for row in rows)
    assert "error: AP drops by 48.75." in output


def test_a_warning_is_shown(server: FakeServer) -> None:
    done = job(state="succeeded", outcome="swapped", version="2", warning="Still busy.")
    server.on("POST /reload", (202, done))
    code, output = run(server, "promote", "shapes", "2")
    assert code == 0
    assert "Still busy." in output


def test_a_promotion_that_is_refused_at_once_is_told(server: FakeServer) -> None:
    server.on("POST /reload", (409, {"error": {"code": "reload_running", "message": "Wait."}}))
    assert run(server, "promote", "shapes", "2") == (1, "error: Wait.\n")


def test_a_rollback_is_followed_too(server: FakeServer) -> None:
    server.on("POST /models/shapes/rollback", (202, job(phase="load")))
    done = job(state="succeeded", outcome="rolled_back", version="1", phases_s={"swap": 0.0})
    server.on("GET /reload/abc", (200, done))
    code, output = run(server, "rollback", "shapes")
    assert code == 0
    assert server.requests[0].json == {"wait": False}
    assert "shapes: 1 is current." in output


def test_a_version_is_removed(server: FakeServer) -> None:
    server.on("DELETE /models/shapes/versions/1", (204, b""))
    code, output = run(server, "remove", "shapes", "1")
    assert (code, output) == (0, "shapes 1 is removed.\n")
    assert server.requests[0].headers["Content-Type"] == "application/json"


@pytest.mark.parametrize(
    "arguments", [("remove", "shapes", "../1"), ("rollback", "a/b"), ("promote", "..", "1")]
)
def test_a_path_is_no_name(server: FakeServer, arguments: tuple[str, ...]) -> None:
    assert run(server, *arguments)[0] == 2
    assert server.calls == []

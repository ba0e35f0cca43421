"""The result as JSON."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from typing import Any

from service.bench.campaign import Result
from service.bench.figures import Figures
from service.bench.level import Level
from service.bench.result_document import result_document
from service.bench.server_metrics import Account

MakeFigures = Callable[..., Figures]
MakeResult = Callable[..., Result]


def document(result: Result) -> dict[str, Any]:
    made = result_document(result, ["a note"], asyncio.SelectorEventLoop)
    loaded: dict[str, Any] = json.loads(json.dumps(made))
    return loaded


def test_machine_versions_and_parameters_are_told(figures: MakeFigures, result: MakeResult) -> None:
    found = document(result({"A": [[figures(Level("open", 5.0))]]}))
    assert found["format"] == 1
    assert {"cpu", "cores", "usable_cores", "memory_bytes", "os"} <= set(found["client"]["machine"])
    assert found["client"]["event_loop"] == "asyncio"
    assert found["parameters"]["levels"] == [{"loop": "open", "value": 5.0}]
    assert found["images"] == [{"name": "a.jpg", "width": 640, "height": 480, "bytes": 11}]
    assert found["targets"][0]["build"]["torch"] == "2.14.1"
    assert found["warnings"] == ["a note"]
    assert "comparison" not in found


def test_a_level_has_its_rounds_and_their_sum(figures: MakeFigures, result: MakeResult) -> None:
    outcomes = Counter({"200": 10, "429": 5, "503": 1, "timeout": 1})
    account = Account(
        images=10, stages={"inference": (0.5, 5)}, batches={"2": 5}, batch_images=10, cpu_s=1.0
    )
    first = figures(outcomes=outcomes, unsent=2, account=account, server_cpu_s=1.0, reopened=1)
    found = document(result({"A": [[first, figures(answered=20)]]}))
    [level] = found["targets"][0]["levels"]
    assert (level["loop"], level["value"], level["images_per_s"]) == ("closed", 1, 15.0)
    assert level["images_per_s_over_rounds"] == {"median": 15.0, "least": 10.0, "most": 20.0}
    one = level["rounds"][0]
    assert one["requests"] == {"ok": 10, "refused": 5, "errors": 2, "unsent": 2}
    assert one["outcomes"] == dict(outcomes)
    assert one["latency_ms"]["p50"] == 50.0
    assert one["client"]["reopened_connections"] == 1
    assert one["server"]["batch_size"] == {"mean": 2.0, "histogram": {"2": 5}}
    assert one["server"]["stages_ms_per_image"] == {"inference": 50.0}
    assert one["server"]["cpu_ms_per_image"] == 100.0
    assert "batch_size" not in level["rounds"][1]["server"]


def test_two_targets_have_their_ratios(figures: MakeFigures, result: MakeResult) -> None:
    found = document(result({"A": [[figures()]], "B": [[figures(answered=20)]]}))
    [ratio] = found["comparison"]
    assert ratio["images_per_s"] == {"median": 2.0, "least": 2.0, "most": 2.0}
    assert ratio["rounds"] == 1
    assert "cpu_per_image" not in ratio


def test_without_a_good_answer_there_is_no_latency(
    figures: MakeFigures, result: MakeResult
) -> None:
    nothing = figures(answered=0, latencies_s=(), outcomes=Counter({"500": 1}))
    [level] = document(result({"A": [[nothing]]}))["targets"][0]["levels"]
    assert level["latency_ms"] is None
    assert level["images_per_s"] == 0

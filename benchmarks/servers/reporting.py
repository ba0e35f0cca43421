"""What every result says of where it was measured, and how it is written."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from datetime import date
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "torchvision", "fastapi", "uvicorn", "uvloop", "orjson", "pillow")


def machine() -> dict[str, Any]:
    """The processor, its cores and its vector units; no name of the machine."""
    model = platform.processor() or platform.machine()
    flags: list[str] = []
    cpu = Path("/proc/cpuinfo")
    if cpu.exists():
        for line in cpu.read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                model = value.strip()
            if key.strip() == "flags" and not flags:
                wanted = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
                flags = [flag for flag in wanted if flag in value.split()]
    return {"cpu": model, "cores": len(os.sched_getaffinity(0)), "flags": flags}


def versions(*, bench_python: Path | None = None) -> dict[str, str]:
    """Of Python and of what matters to the figures; LitServe's from its own environment."""
    found = {"python": platform.python_version(), "detserve": metadata.version("detserve")}
    found |= {name: metadata.version(name) for name in PACKAGES}
    if bench_python is not None and bench_python.exists():
        code = "from importlib.metadata import version; print(version('litserve'))"
        output = subprocess.run([bench_python, "-c", code], capture_output=True, text=True)
        if output.returncode == 0:
            found["litserve"] = output.stdout.strip()
    return found


def write_result(path: Path, content: dict[str, Any]) -> None:
    """Write ``content`` as JSON with today's date."""
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {"date": date.today().isoformat(), **content}
    path.write_text(json.dumps(document, indent=1) + "\n")
    print(f"Written: {path}")

"""Fuzzes the whole OpenAPI document against a server on fake detectors; for ``make fuzz``.

The server runs here; schemathesis runs in an environment of its own, as a process that makes requests
and holds the answers against the document. The exit code is 0 if it found nothing, and if the server
neither failed nor logged a defect of its own.
"""

import argparse
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from fake_detector import NAMES
from fake_repository import FolderLoader, make_version

from service.app import create_app
from service.logging import configure_logging
from service.runtime import Runtime
from service.server.runner import serve
from service.settings import Settings

HERE = Path(__file__).parent
SCHEMATHESIS = HERE.parent.parent / ".venv-clients" / "bin" / "schemathesis"
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
)
VERSIONS = 4


class Defects(logging.Handler):
    """Keeps what the server logs as its own failure."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.found.append(self.format(record))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=600, help="for all of it [600]")
    parser.add_argument("--seed", type=int, default=1, help="another one asks other things [1]")
    parser.add_argument("--include", help="a regular expression of paths; all, if left out")
    arguments = parser.parse_args()
    configure_logging("ERROR")
    defects = Defects()
    logging.getLogger().addHandler(defects)
    with tempfile.TemporaryDirectory() as folder:
        runtime = _runtime(Path(folder))
        runtime.load()
        codes: list[int] = []

        def fuzz(address: str) -> None:
            try:
                codes.append(_run(address, Path(folder), arguments))
            finally:
                os.kill(os.getpid(), signal.SIGINT)  # the server drains and ends

        stopped = serve(
            create_app(runtime),
            port=0,
            drain_timeout_s=10,
            ready_banner=lambda address: threading.Thread(target=fuzz, args=[address]).start(),
            failure=runtime.failure_reason,
        )
        runtime.close()
    if defects.found:
        sys.stderr.write("\n".join(["The server logged defects of its own:", *defects.found, ""]))
    return int(stopped != 0 or codes != [0] or bool(defects.found))


def _runtime(folder: Path) -> Runtime:
    root = folder / "models"
    for label in range(1, VERSIONS + 1):
        make_version(root, str(label), labels=NAMES)
    settings = Settings(
        _env_file=None,
        repository=root,
        allow_upload=True,
        device="cpu",
        threads=2,
        max_body_bytes=2**20,
        max_batch_bytes=2**22,
        body_timeout_s=5.0,
        request_timeout_s=10.0,
    )
    return Runtime(settings, load=FolderLoader())


def _run(address: str, folder: Path, arguments: argparse.Namespace) -> int:
    command = [
        str(SCHEMATHESIS),
        "--config-file", str(HERE / "schemathesis.toml"),
        "run", f"{address}/openapi.json",
        "--checks", ",".join(CHECKS),
        "--phases", "examples,coverage,fuzzing",
        "--max-time", str(arguments.seconds),
        "--seed", str(arguments.seed),
        "--generation-database", "none",
        "--request-timeout", "30",
        "--continue-on-failure",
    ]  # fmt: skip
    if arguments.include:
        command += ["--include-path-regex", arguments.include]
    hooks = {"SCHEMATHESIS_HOOKS": "hooks", "PYTHONPATH": str(HERE), "HOME": str(folder)}
    return subprocess.run(command, cwd=folder, env=os.environ | hooks, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())

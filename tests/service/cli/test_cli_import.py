"""--import of a plug-in that is missing or broken: one sentence, whichever command names it."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from service.cli.main import app


@pytest.fixture(autouse=True)
def _as_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A folder of its own, and the logging of the process as it was."""
    monkeypatch.chdir(tmp_path)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ("def broken(:\n", "SyntaxError: "),
        ("import no_such_package_of_anyone\n", "no_such_package_of_anyone"),
        ("raise ValueError('by its author')\n", "ValueError: by its author"),
        ("raise ValueError('[red]two\\nlines')\n", "ValueError: [red]two lines"),
        ("assert False\n", "AssertionError"),
        (None, "there is no such Python file"),
    ],
    ids=["syntax", "import", "error", "lines", "assertion", "missing"],
)
@pytest.mark.parametrize(("command", "code"), [(["serve"], 1), (["predict", "x.png"], 2)])
def test_a_broken_plugin_is_told_in_one_sentence(
    tmp_path: Path, command: list[str], code: int, content: str | None, part: str
) -> None:
    if content is not None:
        (tmp_path / "broken.py").write_text(content)
    arguments = [*command, "--import", "broken.py", "--device", "cpu"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == code
    [sentence] = [line for line in result.output.splitlines() if line.strip()]
    assert sentence.startswith("error: --import broken.py: ")
    assert part in sentence

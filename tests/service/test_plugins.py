"""--import: the operator's own Python files, each run once, and what is said of a broken one."""

from pathlib import Path

import pytest
from fake_server import Serve

from models.errors import ModelError
from service.plugins import import_plugins
from service.settings import Settings

COUNTING = """
from pathlib import Path

with open(Path(__file__).with_suffix(".log"), "a") as log:
    log.write("x")
"""


def plugin(folder: Path, name: str, text: str = COUNTING) -> Path:
    path = folder / f"{name}.py"
    path.write_text(text)
    return path


def runs(path: Path) -> int:
    log = path.with_suffix(".log")
    return len(log.read_text()) if log.is_file() else 0


def test_a_file_is_run_once_however_often_it_is_named(tmp_path: Path) -> None:
    path = plugin(tmp_path, "counted_once")
    import_plugins([path, path])
    import_plugins([tmp_path / "x" / ".." / "counted_once.py"])
    assert runs(path) == 1


def test_files_of_one_name_in_two_folders_are_both_run(tmp_path: Path) -> None:
    paths = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        paths.append(plugin(folder, "same_name"))
    import_plugins(paths)
    assert [runs(path) for path in paths] == [1, 1]


def test_a_file_that_failed_is_run_again_when_mended(tmp_path: Path) -> None:
    path = plugin(tmp_path, "mended", "raise ValueError('no')\n")
    with pytest.raises(ModelError, match="ValueError: no"):
        import_plugins([path])
    plugin(tmp_path, "mended", COUNTING + "# now it is longer\n")
    import_plugins([path])
    assert runs(path) == 1


@pytest.mark.parametrize("name", ["no_such_file.py", "folder.py", "notes.txt"])
def test_what_is_no_python_file_is_refused_by_its_name(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder.py").mkdir()
    (tmp_path / "notes.txt").write_text("x = 1")
    with pytest.raises(ModelError, match=f"--import .*{name}: there is no such Python file"):
        import_plugins([tmp_path / name])


def test_plugins_are_run_when_the_model_is_loaded(serve: Serve, tmp_path: Path) -> None:
    path = plugin(tmp_path, "at_the_start")
    served = serve(load=False, **{"import": [path]})
    assert runs(path) == 0
    served.runtime.load()
    assert runs(path) == 1


# --- where they are named -----------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _none_around(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("DETSERVE_IMPORT", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "paths"),
    [
        ([], []),
        (["--import", "a.py"], ["a.py"]),
        (["--import=a.py", "--import", "b/c.py"], ["a.py", "b/c.py"]),
        (["--import", "a.py,b.py"], ["a.py", "b.py"]),
    ],
)
def test_flags_name_them(arguments: list[str], paths: list[str]) -> None:
    settings = Settings(_cli_parse_args=arguments, _cli_prog_name="detserve serve")
    assert settings.plugins == [Path(path) for path in paths]


@pytest.mark.parametrize(
    ("value", "paths"), [("", []), ("a.py", ["a.py"]), ("a.py,b.py", ["a.py", "b.py"])]
)
def test_the_environment_names_them(
    monkeypatch: pytest.MonkeyPatch, value: str, paths: list[str]
) -> None:
    monkeypatch.setenv("DETSERVE_IMPORT", value)
    assert Settings().plugins == [Path(path) for path in paths]


def test_a_variable_of_others_runs_no_code(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("IMPORT", "a.py")
    (tmp_path / ".env").write_text("IMPORT=b.py\n")
    assert Settings().plugins == []

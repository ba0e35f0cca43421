"""``detserve models`` on the folder of a repository."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner
from version_files import repository, write_files

from service.cli.main import app
from service.repository.disk.folder import RepositoryFolder
from service.settings import PRETRAINED

CONFIG, WEIGHTS = PRETRAINED / "config.yaml", PRETRAINED / "model_final.pth"
FILES = ("--config", str(CONFIG), "--weights", str(WEIGHTS))


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DETSERVE_REPOSITORY", raising=False)
    monkeypatch.delenv("DETSERVE_ADMIN_TOKEN", raising=False)


def run(*arguments: str | Path, root: Path | None = None) -> tuple[int, str]:
    where = ["--root", str(root)] if root is not None else []
    result = CliRunner().invoke(app, ["models", *map(str, arguments), *where])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    assert "Traceback" not in result.output
    return result.exit_code, result.output


def test_a_version_is_added_promoted_rolled_back_and_removed(tmp_path: Path) -> None:
    code, output = run("add", "shapes", *FILES, root=tmp_path)
    assert code == 0, output
    assert "shapes 1 is complete: 3 files" in output
    model = repository(tmp_path, "2")
    for word, current in (("1", "1"), ("latest", "2")):
        code, output = run("promote", "shapes", word, root=tmp_path)
        assert code == 0, output
        assert f"shapes: {current} is current" in output
    assert run("rollback", "shapes", root=tmp_path)[0] == 0
    assert (model.record().current, model.record().previous) == ("1", None)
    assert run("remove", "shapes", "2", root=tmp_path)[0] == 0
    assert [version.label for version in model.versions()] == ["1"]


def test_names_beside_the_config_go_along(tmp_path: Path) -> None:
    root, folder = tmp_path / "root", tmp_path / "run"
    root.mkdir()
    folder.mkdir()
    for path in (CONFIG, WEIGHTS):
        shutil.copy(path, folder)
    (folder / "labels.txt").write_text("a\nb\nc\nd\n")
    files = ("--config", folder / "config.yaml", "--weights", folder / "model_final.pth")
    assert run("add", "shapes", *files, root=root)[0] == 0
    assert (root / "shapes" / "1" / "labels.txt").read_text() == "a\nb\nc\nd\n"
    named = tmp_path / "names.txt"
    named.write_text("e\nf\ng\nh\n")
    assert run("add", "shapes", *files, "--labels", named, root=root)[0] == 0
    assert (root / "shapes" / "2" / "labels.txt").read_text() == "e\nf\ng\nh\n"


def test_a_folder_that_was_copied_by_hand_is_sealed(tmp_path: Path) -> None:
    folder = tmp_path / "shapes" / "2026-01-02"
    folder.mkdir(parents=True)
    shutil.copy(CONFIG, folder)
    shutil.copy(WEIGHTS, folder)
    code, output = run("add", "shapes", "2026-01-02", root=tmp_path)
    assert code == 0, output
    assert RepositoryFolder(tmp_path).model("shapes").version("2026-01-02").complete
    code, output = run("add", "shapes", "2026-01-02", root=tmp_path)
    assert code == 1
    assert "immutable" in output


def test_the_list_shows_what_is_current_and_what_is_wrong(tmp_path: Path) -> None:
    model = repository(tmp_path, "1", "10", "9")
    write_files(model.path / "11")
    model.change(lambda record: record.promoted("9"))
    model.set_alias("stable", "1")
    code, output = run("list", root=tmp_path)
    assert code == 0
    rows = [line.split() for line in output.splitlines()[1:]]
    assert [row[1] for row in rows if row[0] == "shapes"] == ["1", "9", "10", "11"]
    assert rows[0][2] == "stable"
    assert rows[1][2] == "*"
    assert "manifest.json" in output


def test_the_list_is_json_for_programs(tmp_path: Path) -> None:
    model = repository(tmp_path, "1")
    repository(tmp_path, model="cars")
    write_files(model.path / "2")
    model.change(lambda record: record.promoted("1"))
    code, output = run("list", "--json", root=tmp_path)
    assert code == 0
    cars, shapes = json.loads(output)["models"]
    assert (cars["name"], cars["versions"], cars["current"]) == ("cars", [], None)
    assert (shapes["current"], [v["complete"] for v in shapes["versions"]]) == ("1", [True, False])
    manifest = model.version("1").manifest()
    first = shapes["versions"][0]
    assert (first["digest"], first["size_bytes"]) == (manifest.digest, manifest.size_bytes)
    only = json.loads(run("list", "shapes", "--json", root=tmp_path)[1])["models"]
    assert only == [shapes]


def test_an_empty_repository_says_what_to_do(tmp_path: Path) -> None:
    assert run("list", root=tmp_path) == (0, "No versions yet; detserve models add makes one.\n")


def test_a_damaged_record_is_told_with_all_the_rest(tmp_path: Path) -> None:
    repository(tmp_path, "1", model="cars")
    (repository(tmp_path, "1").path / "state.json").write_text("{")
    code, output = run("list", root=tmp_path)
    assert code == 1
    assert "state.json of 'shapes' cannot be used" in output
    assert "cars" in output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("promote", "shapes", "2"), "there are: 1"),
        (("promote", "cars", "1"), "there are: shapes"),
        (("rollback", "shapes"), "no previous version"),
        (("remove", "shapes", "1"), "is current"),
        (("add", "shapes", "1", *FILES), "immutable"),
        (("add", "shapes", "--weights", "nowhere.pth"), "nowhere.pth cannot be used: No such file"),
        (("add", "shapes", "--weights", str(WEIGHTS)), "needs a config"),
        (("list", "cars"), "there are: shapes"),
    ],
)
def test_a_refusal_is_one_sentence_and_changes_nothing(
    tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    model = repository(tmp_path, "1")
    before = model.change(lambda record: record.promoted("1"))
    code, output = run(*arguments, root=tmp_path)
    assert code == 1
    assert output.startswith("error: ")
    assert message in output
    assert model.record() == before
    assert [version.label for version in model.versions()] == ["1"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("list",), "--root"),
        (("list", "--root", "nowhere"), "no folder 'nowhere'"),
        (("list", "--root", ".", "--url", "http://localhost"), "exclude each other"),
        (("list", "--url", "localhost:8000"), "not the address of a server"),
        (("list", "--url", "http://u:p@localhost"), "without user"),
        (("list", "--url", "http://localhost", "--token", "a\nb"), "printable"),
        (("promote", "../x", "1", "--root", "."), "no name of a model"),
        (("promote", "shapes", "1", "--dry-run", "--root", "."), "--url"),
        (("promote", "shapes", "1", "--min-ap", "5", "--url", "http://localhost"), "--dataset"),
        (("promote", "shapes", "1", "--strategy", "x", "--url", "http://localhost"), "in_place"),
        (
            ("promote", "x", "1", "--dataset", "a", "--no-gate", "--url", "http://localhost"),
            "exclude",
        ),
        (("add", "shapes", "--root", "."), "Name the version"),
        (("add", "shapes", "1", "--config", str(CONFIG), "--root", "."), "--weights is missing"),
        (("add", "shapes", "1", "--url", "http://localhost"), "--weights is missing"),
        (
            ("add", "x", *FILES, "--import", "a.py", "--url", "http://localhost"),
            "--import is for --root",
        ),
    ],
)
def test_wrong_use_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    code, output = run(*arguments)
    assert code == 2
    assert output.startswith("error: ")
    assert message in output


def test_the_folder_may_come_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository(tmp_path, "1")
    monkeypatch.setenv("DETSERVE_REPOSITORY", str(tmp_path))
    code, output = run("list")
    assert code == 0
    assert "shapes" in output


def test_a_failed_first_version_leaves_no_model_that_is_listed(tmp_path: Path) -> None:
    assert run("add", "shapes", "--weights", tmp_path / "nowhere.pth", root=tmp_path)[0] == 1
    assert RepositoryFolder(tmp_path).models() == []


def test_a_component_that_the_config_names_can_be_imported(tmp_path: Path) -> None:
    plugin = tmp_path / "broken.py"
    plugin.write_text("raise ValueError('ours')")
    code, output = run("add", "shapes", *FILES, "--import", plugin, root=tmp_path)
    assert code == 1
    assert "broken.py" in output


def test_listing_and_promoting_do_not_wait_for_pytorch(tmp_path: Path) -> None:
    repository(tmp_path, "1")
    script = (
        "import sys; from typer.testing import CliRunner; from service.cli.main import app\n"
        "for command in (['promote', 'shapes', '1'], ['list'], ['rollback', 'shapes']):\n"
        "    CliRunner().invoke(app, ['models', *command, '--root', sys.argv[1]])\n"
        "sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False)
    assert done.returncode == 0
    assert RepositoryFolder(tmp_path).model("shapes").record().current == "1"

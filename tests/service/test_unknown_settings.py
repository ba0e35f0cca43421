"""Misspelt settings are named, what Kubernetes adds is not, and a broken .env is one sentence."""

from pathlib import Path

import pytest

from service.cli.serve import run
from service.settings import Settings, unknown_variables


def test_a_misspelt_variable_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DETSERVE_ADMN_TOKEN", "x")
    (tmp_path / ".env").write_text("DETSERVE_MAX_QUEU=2\nOTHER=1\n")
    assert unknown_variables() == ["DETSERVE_ADMN_TOKEN", "DETSERVE_MAX_QUEU"]


def test_every_setting_is_known(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.setenv(f"DETSERVE_{'IMPORT' if name == 'plugins' else name.upper()}", "x")
    assert unknown_variables() == []


def test_service_links_of_kubernetes_are_no_settings(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DETSERVE_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("DETSERVE_PORT_8000_TCP", "tcp://10.0.0.1:8000")
    monkeypatch.setenv("DETSERVE_PORT", "tcp://10.0.0.1:8000")
    assert unknown_variables() == []
    assert Settings().port == 8000


def test_an_unknown_variable_stops_serve(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DETSERVE_ADMN_TOKEN", "x")
    assert run([]) == 2
    assert "DETSERVE_ADMN_TOKEN" in capsys.readouterr().err


def test_an_env_file_that_is_no_text_stops_serve_with_a_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_bytes(b"\xff\xfe=1\n")
    assert run([]) == 2
    assert "not UTF-8" in capsys.readouterr().err


def test_a_model_root_that_is_no_folder_stops_serve(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["--model-root", str(tmp_path / "nowhere")]) == 2
    assert "--model-root" in capsys.readouterr().err

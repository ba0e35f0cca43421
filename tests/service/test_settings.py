"""Settings: environment, flags, and what is refused."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from service.images.limits import PILLOW_MAX_PIXELS
from service.settings import PRETRAINED, Settings


@pytest.fixture(autouse=True)
def _no_settings_around(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for field in Settings.model_fields:
        monkeypatch.delenv(f"DETSERVE_{field.upper()}", raising=False)
    monkeypatch.chdir(tmp_path)


def flags(*arguments: str) -> Settings:
    return Settings(_cli_parse_args=list(arguments), _cli_prog_name="detserve serve")


def test_the_defaults_serve_the_embedded_model_on_this_machine_alone() -> None:
    settings = Settings()
    assert (settings.config, settings.weights) == (None, None)
    assert (settings.host, settings.port) == ("127.0.0.1", 8000)
    assert settings.admin_token is None
    for file in ("config.yaml", "model_final.pth", "labels.txt"):
        assert (PRETRAINED / file).is_file()


def test_every_setting_is_an_environment_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DETSERVE_MAX_QUEUE", "7")
    monkeypatch.setenv("DETSERVE_CONFIG", "/models/config.yaml")
    monkeypatch.setenv("DETSERVE_WEIGHTS", "/models/model_final.pth")
    monkeypatch.setenv("DETSERVE_LOG_JSON", "true")
    settings = Settings()
    assert settings.max_queue == 7
    assert settings.config == Path("/models/config.yaml")
    assert settings.log_json


def test_a_flag_wins_over_the_environment_and_that_over_the_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text("DETSERVE_PORT=1\nDETSERVE_MAX_QUEUE=1\nDETSERVE_MAX_IMAGES=1\n")
    monkeypatch.setenv("DETSERVE_PORT", "2")
    monkeypatch.setenv("DETSERVE_MAX_QUEUE", "2")
    settings = flags("--port", "3")
    assert (settings.port, settings.max_queue, settings.max_images) == (3, 2, 1)


def test_flags_are_in_kebab_case_and_switches_need_no_value() -> None:
    settings = flags("--max-batch-size=4", "--max-wait-ms", "2.5", "--log-json")
    assert (settings.max_batch_size, settings.max_wait_ms, settings.log_json) == (4, 2.5, True)


def test_variables_of_others_in_the_file_do_no_harm(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("DATABASE_URL=x\nDETSERVE_NO_SUCH_THING=1\n")
    assert Settings().port == 8000


def test_a_config_needs_its_weights() -> None:
    with pytest.raises(ValidationError, match="--config needs --weights too"):
        Settings(config=Path("file"))


def test_weights_alone_are_a_file_of_torchvisions() -> None:
    settings = Settings(weights=Path("file"))
    assert (settings.config, settings.weights) == (None, Path("file"))


def test_the_token_is_not_shown() -> None:
    assert "s3cret" not in repr(Settings(admin_token="s3cret"))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("port", 65536),
        ("port", -1),
        ("port", "http"),
        ("threads", -1),
        ("max_batch_size", 0),
        ("max_batch_pixels", 0),
        ("max_wait_ms", -1),
        ("max_queue", 0),
        ("request_timeout_s", 0),
        ("max_body_bytes", 1),
        ("max_images", 0),
        ("max_pixels", 0),
        ("max_pixels", PILLOW_MAX_PIXELS + 1),
        ("max_frames", 0),
        ("drain_delay_s", -1),
        ("log_level", "loud"),
        ("name", "a/b"),
        ("name", ""),
        ("name", "-x"),
        ("name", "x" * 65),
        ("name", "x\n"),
    ],
)
def test_a_bad_value_is_refused_by_the_name_of_its_setting(name: str, value: Any) -> None:
    with pytest.raises(ValidationError) as caught:
        Settings(**{name: value})
    assert [problem["loc"] for problem in caught.value.errors()] == [(name,)]


@pytest.mark.parametrize("field", Settings.model_fields)
def test_every_setting_says_what_it_is(field: str) -> None:
    assert Settings.model_fields[field].description

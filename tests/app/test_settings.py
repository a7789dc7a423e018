from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from app.settings import PILLOW_WARNS_ABOVE, Settings, unknown_variables

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"DEEPEMOTION_{name.upper()}", raising=False)


def test_defaults() -> None:
    settings = Settings()
    assert settings.checkpoint == Path("models/emotion6.pt")
    assert settings.max_upload_bytes == 20 * 1024 * 1024
    assert settings.max_pixels == 50_000_000


def test_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEEPEMOTION_PORT", "9000")
    monkeypatch.setenv("DEEPEMOTION_CHECKPOINT", "/srv/model.pt")
    settings = Settings()
    assert settings.port == 9000
    assert settings.checkpoint == Path("/srv/model.pt")


def test_an_argument_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEEPEMOTION_PORT", "9000")
    assert Settings(port=9001).port == 9001


def test_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Settings().port = 1  # type: ignore[misc]


def test_every_field_says_what_it_is_for() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "cuda:1", "cuda:0,cuda:12"])
def test_devices(device: str) -> None:
    assert Settings(device=device).device == device


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("device", "gpu"),
        ("device", "cuda:x"),
        ("threads", "0"),
        ("port", "65536"),
        ("max_pixels", str(PILLOW_WARNS_ABOVE + 1)),
        ("max_upload_bytes", "0"),
        ("upload_seconds", "0"),
        ("upload_seconds", "inf"),
        ("predict_seconds", "nan"),
        ("max_batch", "0"),
        ("max_predictions", "0"),
        ("log_level", "loud"),
        ("host", ""),
        ("host", " "),
        ("upload_memory_bytes", "1000"),
    ],
)
def test_what_cannot_work_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"DEEPEMOTION_{name.upper()}", value)
    with pytest.raises(ValidationError, match=name):
        Settings()


def test_an_unknown_setting_is_refused() -> None:
    with pytest.raises(ValidationError, match="max_pixel"):
        Settings(max_pixel=3)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("DEEPEMOTION_KEY_FILE", "DEEPEMOTION_KEYS_FILE"),
        ("DEEPEMOTION_MAX_PIXEL", "DEEPEMOTION_MAX_PIXELS"),
        ("deepemotion_adminkey", "DEEPEMOTION_ADMIN_KEY"),
    ],
)
def test_a_misspelt_variable_is_refused_and_the_nearest_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str, meant: str
) -> None:
    monkeypatch.setenv(name, "")
    with pytest.raises(ValidationError, match=f"{name} is no setting: is {meant} meant[?]"):
        Settings()


def test_a_variable_that_is_like_no_setting_is_refused_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEEPEMOTION_XYZZY", "1")
    with pytest.raises(ValidationError, match="DEEPEMOTION_XYZZY is no setting"):
        Settings()


def test_what_others_read_of_the_same_prefix_is_passed_over() -> None:
    of_compose = {
        name
        for file in ("docker-compose.yml", "deploy/nginx/docker-compose.yml")
        for name in re.findall(r"\$\{(DEEPEMOTION_\w+)", (ROOT / file).read_text("utf-8"))
    }
    assert of_compose > {"DEEPEMOTION_MEMORY", "DEEPEMOTION_NET"}
    of_kubernetes = [
        f"DEEPEMOTION_{service}{what}"
        for service in ("", "CANARY_")
        for what in ("SERVICE_HOST", "SERVICE_PORT_HTTP", "PORT", "PORT_8000_TCP", "PORT_8000_TCP_ADDR")
    ]
    assert unknown_variables([*of_compose, *of_kubernetes, "PATH", "_DEEPEMOTION_COMPLETE"]) == []


@pytest.mark.parametrize("proxies", ["", "10.0.0.5", "10.0.0.0/8, 192.0.2.1", "2001:db8::/32,::1"])
def test_proxies(proxies: str) -> None:
    assert Settings(trusted_proxies=proxies).trusted_proxies == proxies


@pytest.mark.parametrize("proxies", ["*", "nginx", "10.0.0.1/8", "10.0.0.5,", "10.0.0.5;10.0.0.6", " "])
def test_a_proxy_is_an_address_or_a_network(proxies: str) -> None:
    with pytest.raises(ValidationError, match="name a proxy by its address"):
        Settings(trusted_proxies=proxies)

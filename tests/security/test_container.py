"""What the image and the compose files ask of the engine; `tests/container.py` shows that they get it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.settings import Settings

ROOT = Path(__file__).parents[2]
COMPOSE = {
    path: yaml.safe_load((ROOT / path).read_text("utf-8"))["services"]
    for path in ("docker-compose.yml", "deploy/nginx/docker-compose.yml")
}
FIXED_BY_NGINX = {"max_upload_bytes", "max_batch_bytes", "explain_seconds", "batch_seconds"}
"""Settings that nginx.conf has figures for, which could not follow."""
SERVICES = [(path, name) for path, services in COMPOSE.items() for name in services]


@pytest.mark.parametrize(("path", "name"), SERVICES)
def test_every_container_is_hardened(path: str, name: str) -> None:
    service: dict[str, Any] = COMPOSE[path][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["pids_limit"] <= 4096
    assert service["mem_limit"] == service["memswap_limit"]
    assert service["restart"] == "unless-stopped"
    assert service["logging"] == {
        "driver": "json-file",
        "options": {"max-size": "50m", "max-file": "5"},
    }
    assert all("size=" in mount for mount in service["tmpfs"])
    assert all(mount.endswith(":ro") for mount in service.get("volumes", []))
    assert all(port.startswith("${DEEPEMOTION_PUBLISH:-127.0.0.1}:") for port in service.get("ports", []))
    assert not {"privileged", "cap_add", "devices", "pid", "network_mode", "user"} & service.keys()
    (grace,) = re.findall(r"(\d+)s", service["stop_grace_period"])
    assert int(grace) > Settings.model_fields["drain_seconds"].default


@pytest.mark.parametrize(("path", "name"), [each for each in SERVICES if each[1] != "nginx"])
def test_every_setting_of_the_shell_reaches_the_service(path: str, name: str) -> None:
    service: dict[str, Any] = COMPOSE[path][name]
    fixed = {"host", "port", "device"}  # where it listens is the image's, and compose publishes it
    prefix = "DEEPEMOTION_"
    passed = {key.removeprefix(prefix).lower() for key in service["environment"] if key.startswith(prefix)}
    by_nginx = FIXED_BY_NGINX if "nginx" in path else set()
    assert passed - {"device"} == set(Settings.model_fields) - fixed - by_nginx
    own = {"DEEPEMOTION_DEVICE", "DEEPEMOTION_TRUSTED_PROXIES"}
    for key, value in service["environment"].items():
        assert value is None or key in own or value.startswith("${" + key + ":-"), key
    assert any(mount.endswith("keys:/srv/deepemotion/deploy/keys:ro") for mount in service["volumes"])


@pytest.mark.parametrize("path", ["Dockerfile", "deploy/nginx/Dockerfile"])
def test_no_image_runs_as_root(path: str) -> None:
    last = (ROOT / path).read_text("utf-8").rpartition("\nFROM ")[2]
    (user,) = re.findall(r"^USER (.*)$", last, re.MULTILINE)
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", user)


def test_the_image_knows_how_it_is_and_how_to_stop() -> None:
    last = (ROOT / "Dockerfile").read_text("utf-8").rpartition("\nFROM ")[2].replace("\\\n", "")
    assert "STOPSIGNAL SIGTERM" in last
    (health,) = re.findall(r"^HEALTHCHECK .*? CMD (.*)$", last, re.MULTILINE)
    command = json.loads(health)  # a list: no shell between the engine and it
    assert command[0] == "python"
    assert "/readyz" in command[2]
    assert not re.search(r"curl|wget|apt-get|pip install", last)
    assert json.loads(re.findall(r"^CMD (.*)$", last, re.MULTILINE)[0]) == ["deepemotion", "serve"]

"""The operators' files name only metrics that the service has."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from app.api.schemas import Problem
from app.main import create_app
from app.metrics import Metrics
from tests.api.serving import wait_until
from tests.api.test_metrics import samples
from tests.pictures import plain

if TYPE_CHECKING:
    import httpx

    from app.settings import Settings

DEPLOY = Path(__file__).parents[2] / "deploy"
DASHBOARD = DEPLOY / "grafana" / "deepemotion.json"
ALERTS = DEPLOY / "prometheus" / "alerts.yml"
NGINX = DEPLOY / "nginx" / "nginx.conf"
COMPOSE = (DEPLOY.parent / "docker-compose.yml", DEPLOY / "nginx" / "docker-compose.yml")
GUIDE = DEPLOY.parent / "docs" / "operations.md"
ONLY_ON_A_GPU = {"deepemotion_device_memory_bytes"}


def named(text: str) -> set[str]:
    return set(re.findall(r"\b(?:deepemotion|process)_[a-z_]+", text))


def known(client: httpx.Client) -> set[str]:
    """Names of all samples, also of counters that have counted nothing yet."""
    assert client.post("/predict", content=plain()).status_code == 200
    wait_until(lambda: any(name == "deepemotion_request_seconds_count" for name, _ in samples(client)))
    families = {family.name: family.type for family in Metrics().registry.collect()}
    counters = {f"{name}_total" for name, kind in families.items() if kind == "counter"}
    return {name for name, _ in samples(client)} | counters


@pytest.mark.parametrize("file", [DASHBOARD, ALERTS], ids=["dashboard", "alerts"])
def test_every_metric_exists(client: httpx.Client, file: Path) -> None:
    found = named(file.read_text("utf-8"))
    assert len(found) > 4
    elsewhere = set() if sys.platform == "linux" else {name for name in found if name.startswith("process_")}
    assert found - known(client) <= ONLY_ON_A_GPU | elsewhere


def test_every_metric_is_shown(client: httpx.Client) -> None:
    """A metric that no panel shows is one that nobody looks at."""
    shown = named(DASHBOARD.read_text("utf-8"))
    stems = {re.sub(r"_(total|bucket|count|sum)$", "", name) for name in shown}
    ours = {name for name in known(client) if name.startswith("deepemotion_")}
    assert {re.sub(r"_(total|bucket|count|sum)$", "", name) for name in ours} <= stems


def test_panels_do_not_overlap() -> None:
    panels = json.loads(DASHBOARD.read_text("utf-8"))["panels"]
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels]
    assert len(set(places)) == len(panels)


def test_alerts_say_what_is_wrong_and_are_explained() -> None:
    (group,) = yaml.safe_load(ALERTS.read_text("utf-8"))["groups"]
    guide = GUIDE.read_text("utf-8")
    for rule in group["rules"]:
        assert rule["annotations"]["summary"]
        assert rule["labels"]["severity"] in {"page", "ticket"}
        assert f"`{rule['alert']}`" in guide


def test_the_alert_of_unanswered_pictures_sees_all_routes_that_take_some(base_settings: Settings) -> None:
    (meant,) = set(re.findall(r'route=~"([^"]+)"', ALERTS.read_text("utf-8")))
    paths = create_app(base_settings).openapi()["paths"]
    taking = {path for path, operations in paths.items() if "post" in operations} - {"/v1/model/reload"}
    assert len(taking) == 6
    assert {path for path in paths if re.fullmatch(meant, path)} == taking


@pytest.mark.parametrize("file", COMPOSE, ids=["alone", "nginx"])
def test_what_opentelemetry_is_told_comes_through_compose(file: Path) -> None:
    services = yaml.safe_load(file.read_text("utf-8"))["services"]
    told = set(re.findall(r"`(OTEL_\w+)`", GUIDE.read_text("utf-8")))
    assert len(told) > 8
    for name in services.keys() - {"nginx"}:
        assert {key for key in services[name]["environment"] if key.startswith("OTEL_")} == told


def locations() -> list[re.Pattern[str]]:
    """The patterns of nginx.conf's locations, in their order; PCRE reads these as Python does."""
    return [re.compile(each) for each in re.findall(r"location ~ (\S+) \{", NGINX.read_text("utf-8"))]


def test_nginx_counts_forms_and_nothing_else_as_forms(base_settings: Settings) -> None:
    forms = locations()[0]
    paths = create_app(base_settings).openapi()["paths"]
    found = {path for path in paths if forms.search(path)}
    assert found == {"/v1/predict/batch", "/v2/models/{model_name}/infer"}
    assert forms.search("/v2/models/emotion6/versions/1/infer")
    zone = r"map \$content_length \$form \{.*?default forms;.*?limit_conn_zone \$form zone=forms:"
    assert re.search(zone, NGINX.read_text("utf-8"), re.DOTALL), "nothing that is empty for large ones"


@pytest.mark.parametrize("path", ["/metrics", "/metrics\n", "/metrics/"])
def test_nginx_passes_no_metrics_on(path: str) -> None:
    assert any(each.search(path) for each in locations()[1:])


def test_what_nginx_refuses_is_a_problem() -> None:
    said = re.findall(r"return (\d+) '(.*)';", NGINX.read_text("utf-8"))
    assert [status for status, _ in said] == ["413", "503", "502"]
    for status, text in said:
        problem = Problem.model_validate_json(text)
        assert (str(problem.status), problem.request_id) == (status, "$asked_as")


@pytest.mark.parametrize("place", ["crowded", "away"])
def test_nginx_says_when_to_ask_again(place: str) -> None:
    (told,) = re.findall(rf"location @{place} \{{(.*?)\n        \}}", NGINX.read_text("utf-8"), re.DOTALL)
    assert re.search(r"add_header Retry-After [1-9]\d* always;", told)
    assert re.search(rf"error_page .*@{place};", NGINX.read_text("utf-8"))

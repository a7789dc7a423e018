"""The operators' files name only metrics that the service has."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from app.metrics import Metrics
from tests.api.serving import wait_until
from tests.api.test_metrics import samples
from tests.pictures import plain

if TYPE_CHECKING:
    import httpx

DEPLOY = Path(__file__).parents[2] / "deploy"
DASHBOARD = DEPLOY / "grafana" / "deepemotion.json"
ALERTS = DEPLOY / "prometheus" / "alerts.yml"
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
    guide = (DEPLOY.parent / "docs" / "operations.md").read_text("utf-8")
    for rule in group["rules"]:
        assert rule["annotations"]["summary"]
        assert rule["labels"]["severity"] in {"page", "ticket"}
        assert f"`{rule['alert']}`" in guide

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tests.conformance.run import ask

if TYPE_CHECKING:
    from pathlib import Path

    from app.settings import Settings

EXAMPLES = 12
"""Made up for each operation; ``make test-schema`` asks more, and in sequences."""


def test_the_service_does_what_its_schema_says(base_settings: Settings, judging_path: Path) -> None:
    settings = base_settings.model_copy(update={"checkpoint": judging_path})
    report, counted = ask(
        settings,
        "--max-examples",
        str(EXAMPLES),
        "--phases",
        "examples,coverage,fuzzing",
        "--no-shrink",
        "--seed",
        "6",
    )
    assert report.returncode == 0, report.stdout
    for route, status in (
        ("/predict", "200"),
        ("/v1/predict/batch", "200"),
        ("/explain", "200"),
        ("/predict", "4"),
    ):
        seen = re.compile(rf'route="{route}",status="{status}')  # else it has asked nothing worth asking
        assert any(map(seen.search, counted)), (route, status, counted)

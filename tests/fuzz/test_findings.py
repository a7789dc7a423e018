"""What fuzzing found, and where it begins, tried again."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.seeds import SEEDS
from tests.fuzz.targets import TARGETS

FINDINGS = Path(__file__).parent / "findings"


@pytest.mark.parametrize("target", TARGETS)
def test_no_seed_or_earlier_finding_breaks_a_promise(target: str) -> None:
    folder = FINDINGS / target
    found = [path.read_bytes() for path in sorted(folder.iterdir())] if folder.is_dir() else []
    for data in [*SEEDS[target](), *found]:
        TARGETS[target](data)

from __future__ import annotations

import subprocess
import sys

ASKED_INSTEAD_OF_SERVED = """
import gc
import sys

import uvicorn

from app.cli import main

uvicorn.run = lambda *_, **__: print(gc.get_freeze_count(), len(gc.get_objects()))
sys.argv = ["deepemotion", "serve"]
main()
"""


def test_what_was_imported_is_not_collected_again() -> None:
    told = subprocess.run(
        [sys.executable, "-c", ASKED_INSTEAD_OF_SERVED], check=True, capture_output=True, text=True
    ).stdout.split()
    kept, looked_at = (int(word) for word in told)
    assert kept > 100_000  # torch's
    assert looked_at < kept / 100

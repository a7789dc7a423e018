"""Writes the schema of the service, ``docs/openapi.json``, as ``GET /openapi.json`` answers it.

Run ``python docs/write_openapi.py`` in the repository's folder whenever a route, an answer or an error
changes.
"""

from __future__ import annotations

import json
from pathlib import Path

from app.main import create_app
from app.settings import Settings

SCHEMA = Path("docs/openapi.json")


def main() -> None:
    """Describe the service and write it down."""
    schema = create_app(Settings(device="cpu")).openapi()
    SCHEMA.write_text(json.dumps(schema, indent=1, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    main()

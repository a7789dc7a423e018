"""Writes the answer that README shows: what the shipped checkpoint says of a sample, as the service sends it.

Run ``python docs/write_answer.py`` in the repository's folder whenever the checkpoint or the answer changes.
"""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import httpx

from app.main import create_app
from app.settings import Settings

README = Path("README.md")
SAMPLE = Path("app/web/samples/chelsea.jpg")


async def ask(picture: bytes) -> dict[str, Any]:
    """The service's answer to a picture."""
    app = create_app(Settings(device="cpu"))
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://localhost", timeout=600) as client,
    ):
        while not (await client.get("/readyz")).is_success:  # noqa: ASYNC110 - it warms up
            await asyncio.sleep(0.1)
        files = {"file": picture}
        response = await client.post("/predict", files=files, headers={"X-Request-ID": "readme"})
        answer: dict[str, Any] = response.raise_for_status().json()
        return answer


def main() -> None:
    """Ask, and replace the only block of JSON in README."""
    block = f"```json\n{json.dumps(asyncio.run(ask(SAMPLE.read_bytes())), indent=4)}\n```"
    text, found = re.subn(r"```json\n.*?```", lambda _: block, README.read_text("utf-8"), flags=re.DOTALL)
    if found != 1:
        raise SystemExit(f"README has {found} blocks of JSON, not one")
    README.write_text(text, "utf-8")


if __name__ == "__main__":
    main()

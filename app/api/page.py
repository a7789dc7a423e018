"""The pages at ``/`` and ``/card``: static files that ask this service only, and need nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from starlette.responses import FileResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.requests import Request

FOLDER = Path(__file__).parent.parent / "web"

_HEADERS = {
    # No script, style or connection but our own; pictures also from memory, where the page keeps them.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


async def _page(_request: Request) -> FileResponse:
    return FileResponse(FOLDER / "index.html", headers=_HEADERS)


async def _card(_request: Request) -> FileResponse:
    return FileResponse(FOLDER / "card.html", headers=_HEADERS)


def install(app: FastAPI) -> None:
    """Serve the page at ``/``, the model card at ``/card``, and their parts below ``/web``."""
    app.router.routes += [
        Route("/", _page),
        Route("/card", _card),
        Mount("/web", StaticFiles(directory=FOLDER)),
    ]

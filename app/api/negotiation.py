"""Which of the forms of an answer a client would rather have (RFC 9110, section 12.5.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def preferred(accept: str, offered: Sequence[str]) -> str:
    """The offered media type with the highest quality, the first of equals.

    A client that takes nothing of what is offered, or whose quality is no number, gets the first: RFC 9110
    leaves that to the server.

    Args:
        accept: the value of the ``Accept`` header.
        offered: media types, the server's own favourite first.
    """
    qualities = dict(map(_read, accept.split(",")))
    return max(offered, key=lambda kind: _quality(qualities, kind))


def _read(part: str) -> tuple[str, float]:
    kind, *parameters = (word.strip().lower() for word in part.split(";"))
    given = [word.removeprefix("q=") for word in parameters if word.startswith("q=")]
    try:
        return kind, float(given[0]) if given else 1.0
    except ValueError:
        return kind, 0.0


def _quality(qualities: dict[str, float], kind: str) -> float:
    """Of what names this media type most closely."""
    for name in (kind, f"{kind.partition('/')[0]}/*", "*/*"):
        if name in qualities:
            return qualities[name]
    return 0.0

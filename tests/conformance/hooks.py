"""What schemathesis cannot make by itself: pictures, most of them whole."""

from __future__ import annotations

from typing import Any

import schemathesis
from hypothesis import strategies as st

from tests.pictures import GREEN, RED, encoded, noise, plain
from tests.tiny import LABELS

LONGEST = 64  # of an emotion that the schema allows; a longer one is meant to be wrong
_WHOLE = [
    plain(),
    plain(GREEN, (1, 1), "WEBP"),
    encoded(noise((40, 30)), "JPEG"),
    plain(RED, (9, 400), "JPEG"),
]
_BYTES = st.one_of(
    st.sampled_from(_WHOLE),
    st.sampled_from(_WHOLE),
    st.builds(lambda file, end: file[:end], st.sampled_from(_WHOLE), st.integers(0, 400)),
    st.binary(max_size=64),
)

for _media_type in ("image/jpeg", "image/png", "image/webp", "application/octet-stream"):
    schemathesis.openapi.media_type(_media_type, _BYTES)


@schemathesis.hook
def map_query(_context: schemathesis.HookContext, query: dict[str, Any] | None) -> dict[str, Any] | None:
    """Half of the made-up emotions become one that the checkpoint knows; the schema cannot name them."""
    emotion = (query or {}).get("emotion")
    if query is None or not isinstance(emotion, str) or len(emotion) % 2:
        return query
    return query | {"emotion": LABELS[len(emotion) // 2 % len(LABELS)]} if len(emotion) <= LONGEST else query


@schemathesis.hook
def filter_body(_context: schemathesis.HookContext, body: object) -> bool:
    """A form knows no types: a number among its files arrives as text, and violates nothing."""
    files = body.get("file") if isinstance(body, dict) else None
    return not isinstance(files, list) or not any(isinstance(each, int | float) for each in files)

"""What schemathesis cannot make by itself: pictures, most of them whole."""

from __future__ import annotations

import schemathesis
from hypothesis import strategies as st

from tests.pictures import GREEN, RED, encoded, noise, plain

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

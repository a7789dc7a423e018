"""The list of digests without which the service loads nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.checkpoint import CHECKSUMS, sha256_of, split_sum
from app.offline.files import replacing

if TYPE_CHECKING:
    from pathlib import Path


def list_digest(path: Path) -> str:
    """Put the file's line into ``SHA256SUMS`` (``sha256sum``'s format) beside it; the digest is returned."""
    digest = sha256_of(path)
    sums = path.parent / CHECKSUMS
    lines = sums.read_text("utf-8").splitlines() if sums.exists() else []
    others = [line for line in lines if line and split_sum(line)[1] != path.name]
    listed = sorted([*others, f"{digest}  {path.name}"], key=str.split)
    with replacing(sums) as unfinished:  # half a list would refuse every other file of the folder
        unfinished.write_text("\n".join(listed) + "\n", "utf-8")
    return digest

"""Who may ask: a file of hashed API keys, which is read again whenever it changes.

Each line is a name and the SHA-256 of a key, as ``deepemotion key NAME`` prints it; empty lines and those
that begin with ``#`` say nothing. A name may have several lines: add the new key, let its owner change over,
take the old line away. The keys are random and long, so a plain digest tells nobody how they read.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
import secrets
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

log = logging.getLogger("deepemotion.service")

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_LINE = re.compile(rf"({NAME.pattern})[ \t]+([0-9a-f]{{64}})")
_MOST_BYTES = 1024 * 1024


class KeysError(Exception):
    """The file of keys cannot be used; the message says why, and never what a line holds."""


def new_key() -> str:
    """A key that nobody has yet."""
    return f"de_{secrets.token_urlsafe(32)}"


def line_of(name: str, key: str) -> str:
    """The line of the file that lets this key in.

    Raises:
        ValueError: the name has other characters than a name may have.
    """
    if not NAME.fullmatch(name):
        raise ValueError("a name has up to 64 letters, digits, dots, dashes and underscores")
    return f"{name} {_digest(key)}"


class Keys:
    """The keys of a file.

    A file that cannot be read, or in which a line is wrong, lets nobody in: the old keys are not kept,
    because one of them may just have been taken away. Put a new file in the old one's place by renaming it.

    Raises:
        KeysError: the file cannot be used now; later, `owner` raises it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, ...] | None = None
        self._digests: list[tuple[str, str]] = []
        self._refresh()

    def owner(self, key: str) -> str | None:
        """The name that a key belongs to, or None. Every line is compared, in constant time."""
        self._refresh()
        digest = _digest(key)
        found = None
        for name, listed in self._digests:
            if hmac.compare_digest(digest, listed):
                found = name
        return found

    def _refresh(self) -> None:
        try:
            stat = self._path.stat()
            seen = (stat.st_mtime_ns, stat.st_ctime_ns, stat.st_size, stat.st_ino)
            if seen == self._seen:
                return
            self._seen = None  # so that a file that is wrong is looked at again
            self._digests = _read(self._path)
            self._seen = seen
        except OSError as error:
            raise KeysError(f"the file of keys cannot be read: {error.strerror}") from error
        log.info("keys read", extra={"fields": {"keys": len(self._digests)}})


def _read(path: Path) -> list[tuple[str, str]]:
    with path.open("rb") as file:
        data = file.read(_MOST_BYTES + 1)
    if len(data) > _MOST_BYTES:
        raise KeysError(f"the file of keys has more than {_MOST_BYTES:,} bytes")
    digests = []
    for number, line in enumerate(data.decode("utf-8", "replace").splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line.strip())
        if match is None:
            raise KeysError(f"line {number} of the file of keys is not a name and a SHA-256")
        digests.append((match[1], match[2]))
    return digests


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()

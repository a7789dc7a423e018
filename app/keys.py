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
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

log = logging.getLogger("deepemotion.service")

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_LINE = re.compile(rf"({NAME.pattern})[ \t]+([0-9a-f]{{64}})")
_MOST_BYTES = 1024 * 1024
LOOK_AGAIN_SECONDS = 1.0
"""After which a file that cannot be used is read again, though it looks the same: the disk may be well again.
Anybody may ask, and to read a megabyte for each who does would leave no time for others."""


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
        self._wrong: str | None = None  # why the file cannot be used
        self._again = 0.0
        self._refresh()
        if self._wrong is not None:
            raise KeysError(self._wrong)

    def owner(self, key: str) -> str | None:
        """The name that a key belongs to, or None. Every line is compared, in constant time.

        Raises:
            KeysError: the file cannot be used now. The log has said why when that began.
        """
        before = self._wrong
        self._refresh()
        if self._wrong is not None:
            if self._wrong != before:
                log.error("keys cannot be used", extra={"fields": {"reason": self._wrong}})
            raise KeysError(self._wrong)
        digest = _digest(key)
        found = None
        for name, listed in self._digests:
            if hmac.compare_digest(digest, listed):
                found = name
        return found

    def _refresh(self) -> None:
        """Read the file if it has changed, or if it could not be used a while ago."""
        try:
            stat = self._path.stat()
            seen = (stat.st_mtime_ns, stat.st_ctime_ns, stat.st_size, stat.st_ino)
            if seen == self._seen and (self._wrong is None or time.monotonic() < self._again):
                return
            self._seen, self._again = seen, time.monotonic() + LOOK_AGAIN_SECONDS
            self._digests = _read(self._path)
        except KeysError as error:
            self._wrong = str(error)
        except OSError as error:
            self._wrong = f"the file of keys cannot be read: {error.strerror}"
        else:
            self._wrong = None
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

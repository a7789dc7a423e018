"""HTTP/1.1 as llhttp reads it (httptools, uvicorn's faster parser), strictly and within bounds.

A parser that is written in Python, as uvicorn's other one, takes the event loop more time. But llhttp reads
on and on, so what has no end is counted here: a head, a trailer, the size of a chunk, a body in
chunks of one byte each, empty lines. What it lets through and nobody should send is refused. A request that
offers another protocol, as the first of Java's client does, is read as if it did not. And who asks again
before the answer has come is answered once, and the connection closed, so that no requests wait uncounted.
"""

from __future__ import annotations

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_LONGEST_HEAD = 64 * 1024
"""Bytes; so much may also come of anything else before the parser has told of it."""
_FEW_CHUNKS = 1000
_SMALL_CHUNK = 256
"""Bytes. A chunk takes several calls of Python, however small it is, so beyond a few chunks they must be so
large on average; HTTP libraries make them of kilobytes."""
_OFFERS = frozenset({b"upgrade", b"http2-settings"})


class NotHttp(Exception):
    """What the parser lets through and we do not; raised within it, it comes out as `HttpParserError`."""


class StrictProtocol(HttpToolsProtocol):
    """uvicorn's connection, which reads one request after the other.

    Attributes:
        deaf: whether nothing that comes is read any more.
    """

    deaf = False

    _in_head = False
    _head = _chunks = _body = 0  # of the request that is read; trailers count as its head
    _silent = 0  # bytes that the parser has read without telling of anything

    @property
    def idle(self) -> bool:
        """Whether every request whose head has come is answered."""
        return self.cycle is None or self.cycle.response_complete

    def refuse(self) -> None:
        """What has come is not HTTP, and belongs to no request that waits for its answer."""
        raise NotImplementedError

    def data_received(self, data: bytes) -> None:
        """Read what has come."""
        if self.deaf:
            return
        self._unset_keepalive_if_required()
        self._silent += len(data)
        try:
            self._parse(data)
            self._listen()
        except (HttpParserError, NotHttp):
            self.deaf = True
            if self.idle or self.cycle.more_body:
                self.refuse()
            else:  # it came before the answer to a whole request
                self.cycle.keep_alive = False

    def on_message_begin(self) -> None:
        """A request begins.

        Raises:
            NotHttp: there is one before it that has no answer yet.
        """
        if not self.idle:
            raise NotHttp
        super().on_message_begin()
        self._in_head = True
        self._head = self._chunks = self._body = self._silent = 0

    def on_url(self, url: bytes) -> None:
        """A part of the request's target."""
        self._lengthen(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header; those after a body are not kept, since the application may have looked already."""
        self._lengthen(len(name) + len(value) + len(b": \r\n"))
        if self._in_head:
            super().on_header(name, value.rstrip(b" \t"))

    def on_headers_complete(self) -> None:
        """The head is whole.

        Raises:
            NotHttp: of another version than 1.0 and 1.1, of no or several hosts, coded, or for a tunnel.
        """
        self._in_head = False
        self._silent = 0
        version = self.parser.get_http_version()
        hosts = sum(name == b"host" for name, _ in self.headers)
        codings = {value.lower() for name, value in self.headers if name == b"transfer-encoding"}
        if (
            version not in {"1.0", "1.1"}
            or hosts > 1
            or (version == "1.1" and not hosts)
            or not codings <= {b"chunked"}
            or self.parser.get_method() == b"CONNECT"
        ):
            raise NotHttp
        if version == "1.0":
            self.expect_100_continue = False  # it knows of no answers before the answer
        if not self.parser.should_upgrade():
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        self._body += len(body)
        self._silent = 0
        super().on_body(body)

    def on_chunk_complete(self) -> None:
        """The end of one chunk of a body whose length was not announced.

        Raises:
            NotHttp: they are crumbs.
        """
        self._chunks += 1
        self._silent = 0
        if self._chunks > _FEW_CHUNKS and self._body < self._chunks * _SMALL_CHUNK:
            raise NotHttp

    def on_message_complete(self) -> None:
        """The end of the body, unless the parser believes that another protocol begins."""
        if not self.parser.should_upgrade():
            super().on_message_complete()

    def _parse(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except HttpParserUpgrade as upgrade:
            kept = [b"%s: %s\r\n" % header for header in self.headers if header[0] not in _OFFERS]
            first = b"%s %s HTTP/%s\r\n" % (
                self.parser.get_method(),
                self.url,
                self.parser.get_http_version().encode(),
            )
            self.parser = HttpRequestParser(self)
            self._parse(b"".join([first, *kept, b"\r\n", data[upgrade.args[0] :]]))

    def _listen(self) -> None:
        # A header without an end, or a size of a chunk, or nothing but lines.
        if self._silent > _LONGEST_HEAD:
            raise NotHttp

    def _lengthen(self, size: int) -> None:
        self._silent = 0
        self._head += size
        if self._head > _LONGEST_HEAD:
            raise NotHttp

from __future__ import annotations

import asyncio
import contextlib
import encodings
import logging
import socket
import tempfile
import time
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from starlette.requests import ClientDisconnect, Request

from app.api.disconnect import while_connected
from app.api.problems import CLIENT_CLOSED_REQUEST
from app.api.refusals import ApiError, Busy
from app.api.upload import UploadMemory, read_upload
from app.main import create_app
from app.settings import Settings
from tests.api.serving import service, serving, slug, wait_until
from tests.pictures import plain

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import httpx
    from starlette.types import Message

LIMIT = 100_000
START = b'--b\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n'


@pytest.fixture(scope="module")
def strict(base_settings: Settings) -> Iterator[httpx.Client]:
    """A service with small limits."""
    limits = {"max_upload_bytes": LIMIT, "upload_memory_bytes": 2 * LIMIT, "upload_seconds": 0.5}
    with service(base_settings.model_copy(update=limits)) as client:
        yield client


def pieces(total: int, size: int = 5000) -> Iterator[bytes]:
    """A body of unannounced length."""
    for _ in range(total // size):
        yield bytes(size)


def raw_exchange(client: httpx.Client, request: bytes, *, half_close: bool = False) -> bytes:
    """Send bytes as they are and return all that comes back until the server closes."""
    url = client.base_url
    with socket.create_connection((url.host, url.port or 80), timeout=10) as connection:
        connection.sendall(request)
        if half_close:
            connection.shutdown(socket.SHUT_WR)
        received = b""
        with contextlib.suppress(ConnectionResetError):
            while chunk := connection.recv(65536):
                received += chunk
        return received


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def head(length: int | None = None, *more: str) -> bytes:
    lines = ["POST /predict HTTP/1.1", "Host: x", "Content-Type: image/png", *more]
    if length is not None:
        lines.append(f"Content-Length: {length}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def test_an_announced_length_is_refused_unread(strict: httpx.Client) -> None:
    answer = raw_exchange(strict, head(LIMIT + 1, "Expect: 100-continue"))
    assert status_of(answer) == 413  # and no "100 Continue" before it
    assert b"connection: close" in answer
    assert b"body-too-large" in answer


def test_an_unannounced_length_is_counted(strict: httpx.Client) -> None:
    response = strict.post("/predict", content=pieces(LIMIT + 20_000))
    assert (response.status_code, slug(response)) == (413, "body-too-large")
    assert response.json()["detail"] == "the body has more than 100,000 bytes"


def test_a_length_that_promises_more_than_comes(
    strict: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "deepemotion.request")
    assert raw_exchange(strict, head(5000) + bytes(100), half_close=True) == b""
    wait_until(lambda: count_left(caplog) == 1)


def test_what_comes_beyond_the_length_is_no_part_of_the_body(strict: httpx.Client) -> None:
    data = plain()
    answer = raw_exchange(strict, head(len(data)) + data + bytes(10_000))
    assert status_of(answer) == 200
    assert answer.count(b"HTTP/1.1") == 1  # and no request either


@pytest.mark.parametrize("lie", ["-1", "1, 2", "1e9", "9" * 30, "0x10"])
def test_a_length_that_is_no_number_or_endless(strict: httpx.Client, lie: str) -> None:
    assert status_of(raw_exchange(strict, head(None, f"Content-Length: {lie}"))) in {400, 413}


def test_the_client_sees_the_refusal_of_a_body_it_is_still_sending(strict: httpx.Client) -> None:
    for _ in range(5):
        response = strict.post("/predict", content=pieces(5_000_000, 50_000))
        assert (response.status_code, slug(response)) == (413, "body-too-large")
        assert response.headers["connection"] == "close"


def test_an_endless_body_is_cut_off(strict: httpx.Client) -> None:
    url = strict.base_url
    began = time.monotonic()
    with socket.create_connection((url.host, url.port or 80), timeout=10) as connection:
        connection.sendall(head(None, "Transfer-Encoding: chunked"))
        with contextlib.suppress(OSError):  # reset or broken pipe, as the moment has it
            while time.monotonic() < began + 20:
                connection.sendall(b"1000\r\n" + bytes(4096) + b"\r\n")
                time.sleep(0.001)
    assert time.monotonic() - began < 10


def test_the_limit_is_exact(base_settings: Settings) -> None:
    data = plain()
    limit = len(data)
    with service(base_settings.model_copy(update={"max_upload_bytes": limit})) as client:
        assert client.post("/predict", content=data).status_code == 200
        assert client.post("/predict", content=data + b"\0").status_code == 413
        assert client.post("/predict", content=iter([data, b"\0"])).status_code == 413


def test_a_slow_body_is_given_up(strict: httpx.Client) -> None:
    def drip() -> Iterator[bytes]:
        for _ in range(40):
            yield b"\x89"
            time.sleep(0.05)

    began = time.monotonic()
    response = strict.post("/predict", content=drip())
    assert (response.status_code, slug(response)) == (408, "body-too-slow")
    assert time.monotonic() - began < 5


def test_a_slow_form_is_given_up(strict: httpx.Client) -> None:
    begun = head(9999).replace(b"image/png", b"multipart/form-data; boundary=b") + START
    answer = raw_exchange(strict, begun)
    assert status_of(answer) == 408


def test_others_are_served_while_one_is_slow(strict: httpx.Client) -> None:
    url = strict.base_url
    with socket.create_connection((url.host, url.port or 80)) as slow:
        slow.sendall(head(5000))
        assert strict.post("/predict", content=plain()).status_code == 200


def test_memory_of_all_uploads_together(base_settings: Settings) -> None:
    data = plain()
    limits = {"max_upload_bytes": 3000, "upload_memory_bytes": 3000, "upload_seconds": 60}
    app = create_app(base_settings.model_copy(update=limits))
    with serving(app) as client:
        url = client.base_url
        with socket.create_connection((url.host, url.port or 80)) as first:
            first.sendall(head(3000) + bytes(2999))
            wait_until(lambda: app.state.service.uploads.used == 2999)
            response = client.post("/predict", content=data)
            assert (response.status_code, slug(response)) == (503, "busy")
            assert response.headers["retry-after"] == "1"
        wait_until(lambda: app.state.service.uploads.used == 0)
        assert client.post("/predict", content=data).status_code == 200


def test_shares_are_given_back() -> None:
    memory = UploadMemory(10)
    with memory.share() as one, memory.share() as other:
        one(6)
        other(4)
        with pytest.raises(Busy):
            other(1)
        assert memory.used == 10
    assert memory.used == 0


def test_nothing_is_written_to_disk(
    client: httpx.Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "does not exist"))
    padded = plain() + bytes(5_000_000)
    assert client.post("/predict", files={"file": padded}).status_code == 200


def test_another_field_is_not_taken(client: httpx.Client) -> None:
    response = client.post("/predict", files={"<picture>": plain()})
    assert (response.status_code, slug(response)) == (422, "missing-file")
    assert "`file`" in response.json()["detail"]
    assert "<picture>" not in response.text


def test_text_in_the_right_field_is_not_taken(client: httpx.Client) -> None:
    response = client.post("/predict", data={"file": "abc"}, files={"other": b""})
    assert slug(response) == "missing-file"
    assert "no filename" in response.json()["detail"]


def test_other_fields_do_no_harm(client: httpx.Client) -> None:
    response = client.post("/predict", data={"note": "holiday"}, files={"file": plain()})
    assert response.status_code == 200


@pytest.mark.parametrize("count", [2, 3])
def test_more_than_one_file(client: httpx.Client, count: int) -> None:
    response = client.post("/predict", files=[("file", plain())] * count)
    assert (response.status_code, slug(response)) == (422, "too-many-files")


def test_ten_thousand_files(client: httpx.Client) -> None:
    part = START.replace(b'"file"', b'"other"') + b"\r\n"
    answer = client.post(
        "/predict",
        content=part * 10_000 + b"--b--\r\n",
        headers={"content-type": "multipart/form-data; boundary=b"},
    )
    assert (answer.status_code, slug(answer)) in {(422, "too-many-files"), (400, "bad-multipart")}


def test_many_fields(client: httpx.Client) -> None:
    response = client.post("/predict", data={str(n): "x" for n in range(10_000)}, files={"file": plain()})
    assert (response.status_code, slug(response)) == (400, "bad-multipart")


def test_a_long_field(client: httpx.Client) -> None:
    response = client.post("/predict", data={"note": "x" * 10_000}, files={"file": plain()})
    assert (response.status_code, slug(response)) == (400, "bad-multipart")


@pytest.mark.parametrize("sent", [{"files": {"file": b""}}, {"content": b""}, {}])
def test_an_empty_picture(client: httpx.Client, sent: dict[str, Any]) -> None:
    response = client.post("/predict", **sent)
    assert (response.status_code, slug(response)) == (400, "empty-picture")


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("multipart/form-data", START + b"x\r\n--b--\r\n"),
        ("multipart/form-data; boundary=b", b""),
        ("multipart/form-data; boundary=b", b"nothing of the kind"),
        ("multipart/form-data; boundary=b", START + plain()),
        ("multipart/form-data; boundary=b", START + plain() + b"\r\n--b\r\n"),
        ("multipart/form-data; boundary=" + "b" * 300, START),
        ("multipart/form-data; boundary=b", b"--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b--\r\n"),
        ("multipart/form-data; boundary=b", b"--b\r\n" + b"X" * 20_000 + b": y\r\n\r\nx\r\n--b--\r\n"),
    ],
)
def test_a_broken_form(client: httpx.Client, content_type: str, body: bytes) -> None:
    response = client.post("/predict", content=body, headers={"content-type": content_type})
    assert (response.status_code, slug(response)) == (400, "bad-multipart")


ODD_HEADS = [
    (b'Content-Disposition: form-data; name="file"; filename="\xff\xfe"', 200),
    (b"Content-Disposition: form-data; name=file; filename=x", 200),
    (b'CONTENT-DISPOSITION:form-data;name="file";FILENAME="x"', 200),
    (b'Content-Disposition: form-data; name="file"; filename="', 200),
    (b'Content-Disposition: form-data; name="file"; filename=""', 200),
    (b'Content-Disposition: form-data; name="file"; filename="a;b\\"c"', 200),
    (b'Content-Disposition: form-data; name="file"; filename="x"; =; ;', 200),
    (b'Content-Disposition: nonsense; name="file"; filename="x"', 200),
    (b'Content-Disposition: form-data; name="file"; filename="x"\r\nContent-Type: a; charset=undefined', 200),
    (b'Content-Disposition: form-data; name="file"; filename="x"\r\nContent-Transfer-Encoding: base64', 200),
    (b'Content-Disposition: form-data; name="file"; filename="x"\r\nX: \0\xff\n', 200),
    (b'Content-Disposition: form-data; name="\xff"; filename="x"', 422),
    (b"Content-Disposition: form-data; name=\"file\"; filename*=undefined''x", 422),
    (b'Content-Disposition: form-data; name="file', 422),
    (b'Content-Disposition: form-data; name=""; filename="x"', 422),
    (b"Content-Disposition: form-data; name*=idna''file; filename=\"x\"", 400),
    (b'Content-Disposition: form-data; filename="x"', 400),
    (b"Content-Disposition:", 400),
    (b"Content-Disposition: ;;;===", 400),
    (b"Content-Disposition", 400),
    (b"Content-Type: image/png", 400),
    (b": form-data", 400),
    (b"Content Disposition: x", 400),
    (b'Content-Disposition: form-data;\r\n name="file"; filename="x"', 400),
    (b"\r\n".join([b"X: y"] * 20), 400),
    (b"X: " + b"y" * 20_000, 400),
    (b"\xff: y", 400),
    (b"", 400),
]


@pytest.mark.parametrize(("head", "status"), ODD_HEADS)
def test_an_odd_head_of_a_part(client: httpx.Client, head: bytes, status: int) -> None:
    form = b"--b\r\n" + head + b"\r\n\r\n" + plain() + b"\r\n--b--\r\n"
    headers = {"content-type": "multipart/form-data; boundary=b"}
    answer = client.post("/predict", content=form, headers=headers)
    assert answer.status_code == status
    if status != 200:
        assert slug(answer) == {400: "bad-multipart", 422: "missing-file"}[status]


@pytest.mark.parametrize(
    ("parameter", "boundary"),
    [
        ("b", b"b"),
        ('"b"; charset=utf-8', b"b"),
        ('"a;b:(c)"', b"a;b:(c)"),
        (r'"a\"b"', b'a"b'),
        (r'"a\\b"', rb"a\b"),
        ("b; x=\xff", b"b"),
    ],
)
def test_boundaries(client: httpx.Client, parameter: str, boundary: bytes) -> None:
    form = START.replace(b"--b", b"--" + boundary) + plain() + b"\r\n--" + boundary + b"--\r\n"
    headers = {b"content-type": f"multipart/form-data; boundary={parameter}".encode("latin-1")}
    assert client.post("/predict", content=form, headers=headers).status_code == 200


@pytest.mark.parametrize("charset", ["undefined", "idna", "utf-16", "\xff", "unknown-to-" + "python" * 1000])
def test_the_charset_of_a_form_is_not_looked_up(client: httpx.Client, charset: str) -> None:
    headers = {b"content-type": f"multipart/form-data; charset={charset}; boundary=b".encode("latin-1")}
    form = START + plain() + b"\r\n--b--\r\n"
    assert client.post("/predict", content=form, headers=headers).status_code == 200
    assert not [name for name in vars(encodings)["_cache"] if "python" in name]


@pytest.mark.parametrize("content_type", ["application/json", "text/plain"])
def test_another_content_type(client: httpx.Client, content_type: str) -> None:
    response = client.post("/predict", content=b"{}", headers={"content-type": content_type})
    assert (response.status_code, slug(response)) == (415, "unsupported-media-type")


def test_a_compressed_body(client: httpx.Client) -> None:
    response = client.post("/predict", content=plain(), headers={"content-encoding": "gzip"})
    assert (response.status_code, slug(response)) == (415, "unsupported-media-type")
    below = client.post("/v2/models/tiny/infer", content=b"{}", headers={"content-encoding": "gzip"})
    assert below.status_code == 415
    assert "compressed body" in below.json()["error"]


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "application/octet-stream",
        "application/x-www-form-urlencoded",  # curl --data-binary
        "image/png",
        "IMAGE/JPEG; q=1",
    ],
)
def test_content_types_of_a_raw_picture(client: httpx.Client, content_type: str | None) -> None:
    headers = {} if content_type is None else {"content-type": content_type}
    assert client.post("/predict", content=plain(), headers=headers).status_code == 200


def request_of(*messages: Message, content_type: str = "") -> Request:
    """A request whose body arrives in these messages; after them, nothing ever comes."""
    coming = iter(messages)

    async def receive() -> Message:
        for message in coming:
            return message
        await asyncio.Event().wait()
        raise AssertionError

    headers = [(b"content-type", content_type.encode())] if content_type else []
    return Request({"type": "http", "method": "POST", "headers": headers}, receive)


def body(data: bytes, *, more: bool = False) -> Message:
    return {"type": "http.request", "body": data, "more_body": more}


@hypothesis_settings(max_examples=300, deadline=None)
@given(
    data=st.one_of(
        st.binary(max_size=200),
        st.lists(
            st.sampled_from(
                [
                    START,
                    b"--b",
                    b"\r\n",
                    b"--",
                    b": ",
                    b'name="',
                    b"filename=",
                    b"\0",
                    b"\xff",
                    b"x" * 50,
                    b"\r",
                ]
            ),
            max_size=12,
        ).map(b"".join),
    ),
    cut=st.integers(1, 40),
)
def test_no_body_escapes_as_another_error(data: bytes, cut: int) -> None:
    chunks = [data[start : start + cut] for start in range(0, len(data), cut)]
    request = request_of(
        *(body(chunk, more=True) for chunk in chunks),
        body(b""),
        content_type="multipart/form-data; boundary=b; charset=undefined",
    )
    with contextlib.suppress(ApiError):
        asyncio.run(read_upload(request, Settings(), lambda _size: None))


@pytest.mark.anyio
async def test_work_ends_when_the_client_leaves() -> None:
    cancelled = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    with pytest.raises(ClientDisconnect):
        await while_connected(request_of({"type": "http.disconnect"}), work())
    assert cancelled.is_set()


@pytest.mark.anyio
async def test_the_result_of_work_for_a_client_that_waits() -> None:
    async def work() -> int:
        await asyncio.sleep(0)
        return 7

    before = asyncio.all_tasks()
    assert await while_connected(request_of(), work()) == 7
    assert asyncio.all_tasks() == before


@pytest.mark.anyio
async def test_an_error_of_the_work_comes_through() -> None:
    async def work() -> None:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        await while_connected(request_of(), work())


@pytest.mark.anyio
async def test_work_ends_when_the_request_is_cancelled() -> None:
    started, cancelled = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    task = asyncio.create_task(while_connected(request_of(), work()))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert cancelled.is_set()


def count_left(caplog: pytest.LogCaptureFixture) -> int:
    """Requests in the log whose clients have left."""
    fields = [getattr(record, "fields", {}) for record in caplog.records]
    return sum(each.get("status") == CLIENT_CLOSED_REQUEST for each in fields)


def test_a_client_that_leaves_while_sending(client: httpx.Client, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "deepemotion.request")
    url = client.base_url
    with socket.create_connection((url.host, url.port or 80)) as connection:
        connection.sendall(head(3000) + bytes(100))
        time.sleep(0.1)
    wait_until(lambda: count_left(caplog) == 1)
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_a_client_that_leaves_makes_room(crowded: httpx.Client, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "deepemotion.request")
    url, data = crowded.base_url, plain()
    request = b"POST /explain HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(data) + data
    with contextlib.ExitStack() as stack:
        for _ in ("one that runs", "one that waits"):
            connection = socket.create_connection((url.host, url.port or 80))
            stack.enter_context(connection)
            connection.sendall(request)
            time.sleep(0.5)  # an explanation takes longer, so the second finds the first running
        assert crowded.post("/explain", content=data).status_code == 503
    # Neither was refused, neither was finished, and both places are free at once.
    wait_until(lambda: count_left(caplog) == 2)
    assert crowded.post("/explain", content=data).status_code == 200

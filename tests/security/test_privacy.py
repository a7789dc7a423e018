"""A canary in everything that comes with a picture but its pixels appears nowhere."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from PIL import Image, ImageCms, PngImagePlugin

from tests.api.process import Process
from tests.api.serving import PATIENCE, wait_until
from tests.pictures import encoded, noise

if TYPE_CHECKING:
    from collections.abc import Iterator

CANARY = "canary-5d1f3a"
ROOT = Path(__file__).parents[2]

_AUDIT = """
import os, sys
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
out = os.open(os.environ["AUDIT"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
def hook(event, arguments):
    if event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITING:
        os.write(out, f"{arguments[0]}\\n".encode())
    elif event in {"socket.connect", "socket.getaddrinfo", "subprocess.Popen", "os.exec", "os.posix_spawn"}:
        os.write(out, f"{event} {arguments!r}\\n".encode())
sys.addaudithook(hook)
"""
"""Writes down each file that the process opens to write, whom it connects to, and what it starts."""


def with_canary(file_format: str) -> bytes:
    exif = Image.Exif()
    exif[0x010E] = exif[0x010F] = CANARY  # description, camera
    exif.get_ifd(0x8825)[0x001D] = CANARY  # the date of the place
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes() + CANARY.encode()
    options: dict[str, object] = {"exif": exif, "icc_profile": profile, "xmp": CANARY.encode()}
    if file_format == "JPEG":
        options["comment"] = CANARY.encode()
    if file_format == "PNG":
        texts = PngImagePlugin.PngInfo()
        texts.add_text("Author", CANARY)
        texts.add_text("Comment", CANARY, zip=True)
        options["pnginfo"] = texts
        del options["xmp"]
    return encoded(noise((64, 48)), file_format, **options) + CANARY.encode()


def spread_out(body: bytes) -> bytes:
    """A body with what is compressed in a PNG beside it."""
    if not body.startswith(b"\x89PNG"):
        return body
    image = Image.open(io.BytesIO(body))
    image.load()
    packed = body.split(b"zTXt")[1:] + body.split(b"iCCP")[1:]
    texts = [zlib.decompressobj().decompress(each[each.index(b"\0") + 2 :]) for each in packed]
    return b"".join([body, json.dumps({k: str(v) for k, v in image.info.items()}).encode(), *texts])


@pytest.fixture
def watched(checkpoint_path: Path, tmp_path: Path) -> Iterator[tuple[Process, Path]]:
    (tmp_path / "sitecustomize.py").write_text(_AUDIT, "utf-8")
    (tmp_path / "temporary").mkdir()
    with Process(
        "--checkpoint",
        str(checkpoint_path),
        "--threads",
        "1",
        "--log-level",
        "debug",
        AUDIT=str(tmp_path / "written"),
        TMPDIR=str(tmp_path / "temporary"),
        PYTHONPATH=os.pathsep.join([str(tmp_path), str(ROOT)]),
        PYTHONDONTWRITEBYTECODE="1",
    ) as process:
        yield process, tmp_path
        process.process.send_signal(signal.SIGTERM)
        assert process.end() == 0


def ask_everything(client: httpx.Client) -> list[httpx.Response]:
    answers = []
    for data in (*map(with_canary, ("JPEG", "PNG", "WEBP")), CANARY.encode(), with_canary("PNG")[:300]):
        name = f"{CANARY}\r\n\x1b[31m<script>.png"
        for path in ("/predict", "/explain", "/explain?view=pair", "/explain?view=sheet&legend=true"):
            answers.append(client.post(path, files={"file": (name, data, f"image/{CANARY}")}))
            answers.append(client.post(path, content=data, headers={"Accept": "application/json"}))
        answers.append(client.post("/v1/predict/batch", files=[("file", (CANARY, data))] * 2))
        answers.append(client.post("/predict", files={CANARY: (CANARY, data)}))
        answers.append(client.post("/predict", files={"file": data}, data={CANARY: CANARY}))
        answers.append(client.post(f"/explain?emotion={CANARY}&view={CANARY}&{CANARY}=1", content=data))
        answers.append(
            client.post("/predict", content=data, headers={"Content-Type": CANARY, "X-Other": CANARY})
        )
        answers.append(client.post(f"/v2/models/{CANARY}/infer", content=data))
    answers.append(client.get(f"/{CANARY}", headers={"User-Agent": CANARY, "X-Request-ID": f"{CANARY}!"}))
    answers.append(client.get("/metrics"))
    return answers


def test_a_canary_appears_nowhere_and_no_file_is_written(watched: tuple[Process, Path]) -> None:
    process, folder = watched
    with httpx.Client(base_url=process.url(), timeout=PATIENCE) as client:
        wait_until(lambda: client.get("/readyz").status_code == 200)
        before = (folder / "written").read_text("utf-8").splitlines()
        answers = ask_everything(client)
    assert {answer.status_code for answer in answers} == {200, 404, 415, 422}
    for answer in answers:
        assert CANARY.encode() not in spread_out(answer.content), answer.request.url
        assert CANARY not in str(answer.headers)
    log = "".join(process.lines)
    assert log.count('"route"') >= len(answers)
    assert CANARY not in log
    assert "script" not in log
    assert (folder / "written").read_text("utf-8").splitlines() == before
    assert not list((folder / "temporary").iterdir())


ADDRESSES = (
    "http://127.0.0.1:9/a.png",
    "http://169.254.169.254/latest",
    "file:///etc/passwd",
    "ftp://[::1]/a",
)


def test_no_address_that_a_request_names_is_asked(watched: tuple[Process, Path]) -> None:
    process, folder = watched
    with httpx.Client(base_url=process.url(), timeout=PATIENCE) as client:
        wait_until(lambda: client.get("/readyz").status_code == 200)
        before = (folder / "written").read_text("utf-8").splitlines()
        for address in ADDRESSES:
            for form in (address, f'<svg xmlns="http://www.w3.org/2000/svg"><image href="{address}"/></svg>'):
                for path in ("/predict", "/explain"):
                    assert client.post(path, content=form.encode()).status_code == 415
                    assert client.post(path, files={"file": form.encode()}).status_code == 415
            assert client.post("/predict", data={"file": address, "url": address}).status_code == 415
            assert client.post("/predict", json={"url": address}).status_code == 415
            assert client.post("/predict", params={"url": address, "image_url": address}).status_code == 422
            image = {"name": "image", "shape": [1], "datatype": "BYTES", "data": [address]}
            assert client.post("/v2/models/tiny/infer", json={"inputs": [image]}).status_code == 400
            asked = {"X-Forwarded-Host": address, "Referer": address, "Origin": address}
            xmp = encoded(noise((64, 48)), "JPEG", xmp=f'<x href="{address}"/>'.encode())
            assert client.post("/predict", content=xmp, headers=asked).status_code == 200
    assert (folder / "written").read_text("utf-8").splitlines() == before


def test_a_canary_a_written_file_and_a_connection_would_be_seen(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(_AUDIT, "utf-8")
    program = (
        "import socket, tempfile; print(tempfile.TemporaryFile().name); "
        "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).connect(('127.0.0.1', 9))"
    )
    settings = {"AUDIT": str(tmp_path / "written"), "PYTHONPATH": str(tmp_path), "TMPDIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", program], env=os.environ | settings, check=True)
    assert str(tmp_path) in (tmp_path / "written").read_text("utf-8")
    assert "socket.connect" in (tmp_path / "written").read_text("utf-8")
    texts = PngImagePlugin.PngInfo()
    texts.add_text("Comment", CANARY, zip=True)
    hidden = encoded(noise((8, 8)), pnginfo=texts)
    assert CANARY.encode() not in hidden
    assert CANARY.encode() in spread_out(hidden)

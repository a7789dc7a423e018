"""Whether this machine can run the service as it is set, and what to change where it cannot."""

from __future__ import annotations

import http.client
import json
import math
import platform
import socket
import statistics
import sys
import time
import urllib.request
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import features

from app.checkpoint import CheckpointError, judge
from app.cpus import available_cpus
from app.devices import choose_devices
from app.keys import Keys, KeysError
from app.memory import available_memory
from app.offline.loading import Loaded, load
from app.offline.pictures import gist
from app.picture import DECODING_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from app.settings import Settings

PYTHONS = ((3, 11), (3, 14))
"""The first version that is supported, and the first that is not."""
TORCHES = ((2, 13), (2, 15))
"""Likewise."""
SLOW_SECONDS = 1.0
"""A forward pass that takes longer makes a service that nobody likes to wait for."""
DRAWING_BYTES = 18
"""That a pixel may take while a heat map is drawn on it and encoded; it is a pair that takes so many."""
GIBIBYTE = 1024**3
_WARM_UPS, _TIMED = 3, 5
_DECODERS = {"jpg": "JPEG", "zlib": "PNG", "webp": "WebP", "littlecms2": "colour profiles"}


class State(StrEnum):
    """What came of a check."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: of the thing.
        state: whether the service will run with it.
        found: what there is.
        change: what to do about it; empty if nothing.
    """

    name: str
    state: State
    found: str
    change: str = ""


def examine(settings: Settings) -> Iterator[Check]:
    """Look at one thing after the other; nothing is changed."""
    yield _python()
    yield _torch()
    yield _decoders()
    device = _device(settings)
    yield device
    yield _threads(settings)
    loaded: Loaded | None = None
    if device.state is State.FAIL:
        yield Check("checkpoint", State.SKIPPED, "there is no device to load it for")
    else:
        loaded, check = _checkpoint(settings)
        yield check
    if loaded is None:
        yield Check("forward pass", State.SKIPPED, "there is no network to try")
    else:
        yield check_forward_pass(loaded)
        yield from _gpu_memory(loaded)
    yield check_memory(settings, available_memory())
    if settings.keys_file is not None:
        yield _keys(settings.keys_file)
    yield _port(settings)


def _python() -> Check:
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    first, beyond = PYTHONS
    if first <= sys.version_info[:2] < beyond:
        return Check("Python", State.OK, found)
    change = f"use Python {_dotted(first)} or later, before {_dotted(beyond)}, which has no TorchScript"
    return Check("Python", State.FAIL, found, change)


def _torch() -> Check:
    version = str(torch.__version__)
    built_for = f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPU"
    found = f"{version}, built for {built_for}"
    first, beyond = TORCHES
    if first <= tuple(int(part) for part in version.split(".")[:2]) < beyond:
        return Check("torch", State.OK, found)
    change = f"install torch {_dotted(first)} or later, before {_dotted(beyond)}: others were not tried"
    return Check("torch", State.WARN, found, change)


def _decoders() -> Check:
    missing = [name for feature, name in _DECODERS.items() if not features.check(feature)]
    if missing:
        change = "install Pillow from its own wheels, which have everything"
        return Check("decoders", State.FAIL, f"Pillow was built without {', '.join(missing)}", change)
    return Check("decoders", State.OK, ", ".join(_DECODERS.values()))


def _device(settings: Settings) -> Check:
    try:
        chosen = ", ".join(_device_name(device.torch) for device in choose_devices(settings.device))
    except CheckpointError as error:
        return Check(
            "device", State.FAIL, str(error), "set DEEPEMOTION_DEVICE to auto or cpu, or mend the driver"
        )
    if settings.device == "auto" and not torch.cuda.is_available() and Path("/dev/nvidia0").exists():
        change = "install torch's build for CUDA: make serve TORCH=cuda"
        return Check("device", State.WARN, f"{chosen}; there is a GPU that torch cannot use", change)
    return Check("device", State.OK, chosen)


def _device_name(device: torch.device) -> str:
    return f"{device}: {torch.cuda.get_device_name(device)}" if device.type == "cuda" else str(device)


def _threads(settings: Settings) -> Check:
    cpus = available_cpus()
    if settings.threads is None:
        return Check("CPU threads", State.OK, f"one for each of the {cpus} processors that may be used")
    found = f"{settings.threads} for an operation, with {cpus} processors that may be used"
    if settings.threads > cpus:
        return Check("CPU threads", State.WARN, found, "unset DEEPEMOTION_THREADS: they wait for each other")
    if settings.threads < cpus:
        return Check(
            "CPU threads", State.WARN, found, "unset DEEPEMOTION_THREADS, unless others need the rest"
        )
    return Check("CPU threads", State.OK, found)


def _checkpoint(settings: Settings) -> tuple[Loaded | None, Check]:
    try:
        loaded = load(settings)
    except CheckpointError as error:
        change = "set DEEPEMOTION_CHECKPOINT to the path of a checkpoint that SHA256SUMS beside it lists"
        return None, Check("checkpoint", State.FAIL, str(error), change)
    card = loaded.model.card
    found = (
        f"{settings.checkpoint}: {card.release}, {len(card.labels)} emotions, "
        f"sha256 {loaded.model.sha256[:12]}…"
    )
    return loaded, Check("checkpoint", State.OK, found)


def check_forward_pass(loaded: Loaded, slow: float = SLOW_SECONDS) -> Check:
    """On the first device; the others are of the same kind. Warns when it takes more than `slow` seconds."""
    copy = loaded.model.copies[0]
    picture = np.zeros((1, 3, copy.card.input_size, copy.card.input_size), np.uint8)
    loaded.devices[0].settle()
    seconds = []
    try:
        for _ in range(_WARM_UPS + _TIMED):
            began = time.perf_counter()
            finite = bool(judge(copy, picture).sound.all())
            seconds.append(time.perf_counter() - began)
    except Exception as error:  # noqa: BLE001 - whatever a network raises
        return Check("forward pass", State.FAIL, gist(error), "use another checkpoint or another device")
    if not finite:
        found = "the answer to a black picture is not a number"
        return Check("forward pass", State.FAIL, found, "use another checkpoint")
    median = statistics.median(seconds[_WARM_UPS:])
    found = f"{median * 1000:.1f} ms for one picture on {copy.device}, by {copy.predicts}"
    if median > slow:
        return Check("forward pass", State.WARN, found, "use a GPU, or more or faster processors")
    return Check("forward pass", State.OK, found)


def _gpu_memory(loaded: Loaded) -> Iterator[Check]:
    for device in loaded.devices:
        if device.torch.type == "cuda":
            free, total = torch.cuda.mem_get_info(device.torch)
            found = f"{free / GIBIBYTE:.1f} of {total / GIBIBYTE:.1f} GiB are free on {device.torch}"
            if free < GIBIBYTE:
                change = "end what else uses the GPU, or name another in DEEPEMOTION_DEVICE"
                yield Check("GPU memory", State.WARN, found, change)
            else:
                yield Check("GPU memory", State.OK, found)


def check_memory(settings: Settings, available: int | None) -> Check:
    """What is left beside the loaded network, against the most that requests and answers may take."""
    one_picture = DECODING_BYTES * settings.max_pixels
    needed = settings.upload_memory_bytes + settings.unread_memory_bytes
    needed += settings.decode_threads * one_picture
    needed += DRAWING_BYTES * settings.max_pixels  # one thread draws
    if available is None:
        return Check("memory", State.WARN, "the system does not say", f"see that {_gib(needed)} are free")
    found = f"{_gib(available)} are free; uploads, pictures and unread answers may take {_gib(needed)}"
    if available >= needed:
        return Check("memory", State.OK, found)
    change = (
        "lower DEEPEMOTION_MAX_PIXELS, DEEPEMOTION_UPLOAD_MEMORY_BYTES or DEEPEMOTION_UNREAD_MEMORY_BYTES, "
        "or give it more memory"
    )
    return Check("memory", State.FAIL if available < one_picture else State.WARN, found, change)


def _keys(path: Path) -> Check:
    try:
        Keys(path)
    except KeysError as error:
        change = "let the service's user read it, and write it with the lines of `deepemotion key NAME`"
        return Check("keys", State.FAIL, str(error), change)
    return Check("keys", State.OK, f"{path} can be read")


def _port(settings: Settings) -> Check:
    where = f"{settings.host}:{settings.port}"
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does
            listener.bind(address)
    except (OSError, UnicodeError) as error:
        if _is_served_there(settings):
            return Check("port", State.OK, f"{where} is taken by a DeepEmotion service that answers")
        change = "set DEEPEMOTION_PORT or DEEPEMOTION_HOST, or end the program that listens there"
        what = error.strerror if isinstance(error, OSError) else "this is no name of a machine"
        return Check("port", State.FAIL, f"{where}: {what}", change)
    return Check("port", State.OK, f"{where} is free" if settings.port else "any free one is taken")


def _is_served_there(settings: Settings) -> bool:
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(settings.host, settings.host)  # noqa: S104 - compared
    try:
        # A proxy of the environment cannot reach what listens here.
        directly = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with directly.open(f"http://{host}:{settings.port}/healthz", timeout=2) as answer:
            return bool(json.load(answer) == {"status": "alive"})
    except (OSError, ValueError, http.client.HTTPException):
        return False


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


def _gib(count: int) -> str:
    return f"{math.ceil(count / GIBIBYTE * 10) / 10:.1f} GiB"

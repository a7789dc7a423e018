from __future__ import annotations

import os
import threading

import pytest
import torch

from app import devices
from app.checkpoint import CheckpointError
from app.devices import Device, choose_devices


@pytest.fixture(autouse=True)
def _machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight processors on one socket, and no GPU."""
    see(monkeypatch, gpus=0, sockets=(frozenset(range(8)),))


def see(monkeypatch: pytest.MonkeyPatch, *, gpus: int, sockets: tuple[frozenset[int], ...]) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(devices, "sockets", lambda: sockets)
    monkeypatch.setattr(devices, "available_cpus", lambda: sum(map(len, sockets)))


def names(chosen: tuple[Device, ...]) -> list[str]:
    return [str(device.torch) for device in chosen]


@pytest.mark.parametrize("wish", ["auto", "cpu"])
def test_one_socket_is_one_device_with_all_processors(wish: str) -> None:
    assert choose_devices(wish) == (Device(torch.device("cpu"), 8),)
    assert choose_devices(wish, threads=3) == (Device(torch.device("cpu"), 3),)


@pytest.mark.parametrize(("largest_batch", "streams"), [(1, 1), (7, 1), (8, 8), (16, 8)])
def test_a_processor_has_streams_if_a_batch_has_a_picture_for_each(largest_batch: int, streams: int) -> None:
    (device,) = choose_devices("cpu", largest_batch=largest_batch)
    assert (device.threads, device.streams) == (8, streams)


def test_each_socket_is_a_device_with_its_own_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    see(monkeypatch, gpus=0, sockets=(frozenset({0, 1, 2, 3}), frozenset({4, 5})))
    cpu = torch.device("cpu")
    assert choose_devices("cpu") == (
        Device(cpu, 3, frozenset({0, 1, 2, 3})),
        Device(cpu, 2, frozenset({4, 5})),
    )


def test_every_gpu_or_those_that_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    see(monkeypatch, gpus=3, sockets=(frozenset({0}),))
    for wish in ("auto", "cuda"):
        assert names(choose_devices(wish)) == ["cuda:0", "cuda:1", "cuda:2"]
    assert names(choose_devices("cuda:0,cuda:2")) == ["cuda:0", "cuda:2"]
    assert names(choose_devices("cpu")) == ["cpu"]
    with pytest.raises(CheckpointError, match="cuda:3: torch sees no such GPU"):
        choose_devices("cuda:1,cuda:3")


@pytest.mark.parametrize("wish", ["cuda", "cuda:0"])
def test_no_gpu(wish: str) -> None:
    with pytest.raises(CheckpointError, match="torch sees no such GPU"):
        choose_devices(wish)


def test_a_thread_settles_on_its_processors_and_no_other_thread_does() -> None:
    everywhere = os.sched_getaffinity(0)
    one = frozenset({min(everywhere)})
    seen: list[tuple[set[int], int]] = []

    def work() -> None:
        Device(torch.device("cpu"), 1, one).settle()
        seen.append((os.sched_getaffinity(0), torch.get_num_threads()))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(set(one), 1)]
    assert os.sched_getaffinity(0) == everywhere

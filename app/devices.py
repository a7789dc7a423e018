"""The devices that the engine owns, and the processors that belong to each."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

import torch

from app.checkpoint import CheckpointError
from app.cpus import available_cpus, sockets


@dataclass(frozen=True)
class Device:
    """One device and how its thread computes.

    Attributes:
        torch: where the network is.
        threads: of one operation on a CPU; None leaves torch's choice.
        cpus: processors that its thread, and those that it starts, keep to; None is all.
        streams: batches that it computes at once, each on one thread, when more than one picture waits.
    """

    torch: torch.device
    threads: int | None = None
    cpus: frozenset[int] | None = None
    streams: int = 1

    def settle(self) -> None:
        """Make the calling thread the one that computes on this device."""
        if self.cpus is not None and hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, self.cpus)  # of this thread alone, and of the threads that it starts
        if self.threads is not None:
            torch.set_num_threads(self.threads)


def choose_devices(names: str, threads: int | None = None, *, largest_batch: int = 1) -> tuple[Device, ...]:
    """The devices that the settings name.

    Args:
        names: ``auto`` is every GPU, or else every CPU socket; ``cpu`` every socket; ``cuda`` every GPU; or
            GPUs one by one, as in ``cuda:0,cuda:2``.
        threads: for one operation on a CPU; None takes what affinity and control group allow.
        largest_batch: what the streams of a CPU share; with fewer pictures than threads there are none.

    Raises:
        CheckpointError: a GPU is asked for and there is none such.
    """
    if names == "auto":
        names = "cuda" if torch.cuda.is_available() else "cpu"
    if names == "cpu":
        return tuple(_in_streams(device, largest_batch) for device in _sockets(threads))
    count = torch.cuda.device_count()
    if names == "cuda":
        names = ",".join(f"cuda:{index}" for index in range(max(1, count)))
    chosen = [torch.device(name) for name in names.split(",")]
    for device in chosen:
        if (device.index or 0) >= count:
            raise CheckpointError(f"the checkpoint cannot be put on {device}: torch sees no such GPU")
    return tuple(Device(device, threads) for device in chosen)


def _in_streams(device: Device, largest_batch: int) -> Device:
    threads = device.threads or 1
    return replace(device, streams=threads) if threads <= largest_batch else device


def _sockets(threads: int | None) -> tuple[Device, ...]:
    """One device a socket: threads that reach over to another socket's memory wait for it."""
    groups = sockets()
    each = threads if threads is not None else max(1, available_cpus() // len(groups))
    if len(groups) == 1:
        return (Device(torch.device("cpu"), each),)
    return tuple(Device(torch.device("cpu"), min(each, len(group)), group) for group in groups)

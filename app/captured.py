"""A network on a GPU as CUDA graphs: what a batch asks of the GPU is written down once and repeated.

A GPU computes a few pictures in less time than a processor takes to ask for each of the network's hundreds of
operations. A graph asks for all of them at once, but always for the same number of pictures in the same
memory; so there is one for each of a few sizes, and a batch takes the smallest that it fits in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from app.compiled import CannotCompile

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor
    from torch.cuda import _POOL_HANDLE

    Judging = Callable[[Tensor], tuple[Tensor, ...]]

SIZES = (1, 2, 4, 8, 16, 32)
_WARM_UP = 3
"""Passes before one is written down: libraries choose their algorithms and take their memory meanwhile."""


class Captured:
    """A network on one GPU.

    Args:
        judging: logits ``[N, K]``, and novelty ``[N]`` if the network has it, of pictures ``[N, 3, S, S]``.
        side: S.
        device: the GPU.

    Attributes:
        name: of what computes.

    Raises:
        CannotCompile: the GPU or the network does not let itself be written down.
    """

    name = "TorchScript in CUDA graphs"

    def __init__(self, judging: Judging, side: int, device: torch.device) -> None:
        try:
            stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
            pool = torch.cuda.graph_pool_handle()
            # The largest first, so that the others find room in its memory.
            self._recordings = [
                _Recording(judging, size, side, stream, pool) for size in sorted(SIZES, reverse=True)
            ]
        except RuntimeError as error:
            raise CannotCompile(f"no CUDA graph can be made: {error}") from error

    def __call__(self, pictures: NDArray[np.uint8]) -> tuple[Tensor, ...]:
        """What the network says of pictures ``uint8 [N, 3, S, S]``, on the processor."""
        if len(pictures) > max(SIZES):
            starts = range(0, len(pictures), max(SIZES))
            parts = [self(pictures[start : start + max(SIZES)]) for start in starts]
            return tuple(torch.cat(answers) for answers in zip(*parts, strict=True))
        smallest = next(each for each in reversed(self._recordings) if each.size >= len(pictures))
        return smallest(torch.from_numpy(pictures))


class _Recording:
    """One size of batches. The memory that pictures come from and answers go to is pinned: no copy waits.

    It has a stream of its own, which is waited for; gradients have the GPU's default stream.
    """

    def __init__(
        self, judging: Judging, size: int, side: int, stream: torch.cuda.Stream, pool: _POOL_HANDLE
    ) -> None:
        self.size = size
        self._stream = stream
        shape = (size, 3, side, side)
        self._given = _pinned(torch.zeros(shape, dtype=torch.uint8))
        self._shown = self._given.to(stream.device, memory_format=torch.channels_last)
        self._graph, self._answers = _capture(lambda: judging(self._shown), stream, pool)
        self._told = [_pinned(torch.zeros_like(answer, device="cpu")) for answer in self._answers]

    def __call__(self, pictures: Tensor) -> tuple[Tensor, ...]:
        count = len(pictures)  # what is left in the other places is computed again, and nobody looks
        self._given[:count].copy_(pictures)
        with torch.cuda.stream(self._stream):
            self._shown.copy_(self._given, non_blocking=True)
            self._graph.replay()
            for told, answer in zip(self._told, self._answers, strict=True):
                told.copy_(answer, non_blocking=True)
        self._stream.synchronize()
        return tuple(told[:count].clone() for told in self._told)


def _pinned(tensor: Tensor) -> Tensor:
    return tensor.pin_memory()


def _capture(
    work: Callable[[], tuple[Tensor, ...]], stream: torch.cuda.Stream, pool: _POOL_HANDLE
) -> tuple[torch.cuda.CUDAGraph, tuple[Tensor, ...]]:
    """The work as a graph, and where its results are after each replay."""
    # Without TorchScript's own optimisation, which would go on while the graph is written down.
    with torch.no_grad(), torch.jit.optimized_execution(False):  # type: ignore[attr-defined]
        stream.wait_stream(torch.cuda.current_stream(stream.device))
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UP):
                work()
        stream.synchronize()
        graph = torch.cuda.CUDAGraph()
        # Other threads may use the GPU meanwhile: a reload captures while the old model answers.
        with torch.cuda.graph(graph, pool=pool, stream=stream, capture_error_mode="thread_local"):
            answers = work()
    return graph, answers

"""CUDA graphs without a GPU: what a graph repeats is repeated by hand. Only the last test asks a GPU."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from app import captured
from app.captured import SIZES, Captured
from app.checkpoint import Checkpoint, judge, judging, load_torchscript
from app.compiled import CannotCompile
from app.loading import load, with_compiled
from tests.tiny import SIDE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CPU = torch.device("cpu")
Answers = tuple[torch.Tensor, ...]


class Again:
    """A graph: it does the same work in the same memory."""

    replayed: list[int]

    def __init__(self, work: Callable[[], Answers]) -> None:
        self.work = work
        self.answers = work()

    def replay(self) -> None:
        self.replayed.append(len(self.answers[0]))
        for old, new in zip(self.answers, self.work(), strict=True):
            old.copy_(new)


@pytest.fixture
def replayed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the graphs that were replayed, in order."""
    sizes: list[int] = []
    monkeypatch.setattr(Again, "replayed", sizes, raising=False)
    stream = SimpleNamespace(device=CPU, synchronize=lambda: None)
    monkeypatch.setattr(torch.cuda, "Stream", lambda _: stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda _: nullcontext())
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: (0, 0))
    monkeypatch.setattr(captured, "_pinned", lambda tensor: tensor)

    def capture(work: Callable[[], Answers], *_: object) -> tuple[Again, Answers]:
        graph = Again(work)
        return graph, graph.answers

    monkeypatch.setattr(captured, "_capture", capture)
    return sizes


def _pictures(count: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.random.default_rng(count).integers(0, 256, (count, 3, SIDE, SIDE), dtype=np.uint8)


@pytest.mark.parametrize(
    ("count", "sizes"), [(1, [1]), (2, [2]), (3, [4]), (9, [16]), (32, [32]), (37, [32, 8]), (64, [32, 32])]
)
@pytest.mark.parametrize("name", ["checkpoint", "judging"])
def test_batches_take_the_smallest_graph_they_fit_in(
    name: str, count: int, sizes: list[int], replayed: list[int], request: pytest.FixtureRequest
) -> None:
    plain: Checkpoint = request.getfixturevalue(name)
    faster = with_compiled(plain, Captured(judging(plain), SIDE, CPU))
    assert faster.predicts == "TorchScript in CUDA graphs"
    replayed.clear()
    found = judge(faster, _pictures(count))
    assert replayed == sizes
    assert found.probabilities.shape == (count, 3)
    assert found.difference(judge(plain, _pictures(count))) < 1e-5


def test_answers_stay_when_the_memory_is_used_again(checkpoint: Checkpoint, replayed: list[int]) -> None:
    graphs = Captured(judging(checkpoint), SIDE, CPU)
    first = graphs(_pictures(3))[0]
    kept = first.clone()
    graphs(255 - _pictures(3))
    assert torch.equal(first, kept)
    assert replayed == [4, 4]


def test_larger_graphs_are_made_first_and_each_once(checkpoint: Checkpoint, replayed: list[int]) -> None:
    made: list[int] = []

    def counting(pictures: torch.Tensor) -> Answers:
        made.append(len(pictures))
        return judging(checkpoint)(pictures)

    Captured(counting, SIDE, CPU)
    assert made == sorted(SIZES, reverse=True)
    assert replayed == []


def test_without_a_gpu_torchscript_has_to_predict(checkpoint: Checkpoint) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(CannotCompile, match="no CUDA graph can be made"):
        Captured(judging(checkpoint), SIDE, torch.device("cuda"))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_says_what_it_says_without_graphs(judging_path: Path) -> None:
    gpu = torch.device("cuda")
    graphs, plain = load(judging_path, gpu), load_torchscript(judging_path, gpu)
    assert graphs.predicts == "TorchScript in CUDA graphs"
    for count in (1, 3, 37):
        assert judge(graphs, _pictures(count)).difference(judge(plain, _pictures(count))) < 1e-3

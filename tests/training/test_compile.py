from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch.nn import functional

from app.checkpoint import CHECKSUMS, Checkpoint, CheckpointError, judge, load_torchscript
from app.compiled import SUFFIX
from app.loading import load
from tests.tiny import SIDE, JudgingNetwork, judging_card, write_checkpoint
from training import export
from training.__main__ import main
from training.checksums import list_digest
from training.compile import compile_checkpoint, exported, onnx_of

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

CPU = torch.device("cpu")


@pytest.fixture(scope="module", params=[False, True], ids=["logits", "judges"])
def path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with its graph beside it."""
    path = write_checkpoint(tmp_path_factory.mktemp("compiled"), judges=request.param)
    assert main(["compile", str(path)]) == 0
    return path


@pytest.mark.parametrize("count", [1, 5])
def test_exported_graph_takes_any_number_of_pictures(judging: Checkpoint, count: int) -> None:
    pictures = torch.from_numpy(_pictures(count)).to(memory_format=torch.channels_last)
    with torch.no_grad():
        answers = exported(judging).module()(pictures)
        for answer, expected in zip(answers, judging.network.judge(pictures), strict=True):
            assert answer.shape == expected.shape
            np.testing.assert_allclose(answer, expected, atol=1e-5)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_compiled_says_what_torchscript_says(path: Path, count: int) -> None:
    pictures = _pictures(count)
    compiled, plain = load(path, CPU), _without_graph(path)
    assert compiled.predicts.startswith("ONNX Runtime ")
    assert plain.predicts == "TorchScript"
    found, expected = judge(compiled, pictures), judge(plain, pictures)
    assert found.probabilities.shape == (count, 3)
    assert found.difference(expected) < 1e-5
    assert (found.novelty is None) == (expected.novelty is None)


def test_streams_say_the_same_whoever_computes_beside_them(path: Path) -> None:
    served = load(path, CPU, threads=2, streams=2)
    assert served.stream is not None
    assert load(path, CPU, threads=2).stream is None
    pictures = [np.roll(_pictures(3), shift, axis=-1) for shift in range(8)]
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(partial(judge, served.as_stream()), pictures))
    for several, judged in zip(pictures, found, strict=True):
        assert judged.difference(judge(served, several)) < 1e-5


def test_graph_has_no_weights_and_follows_the_checkpoint(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path, judges=True)
    main(["compile", str(path)])
    before = judge(load(path, CPU), _pictures(1)).probabilities
    network = JudgingNetwork().eval()
    with torch.no_grad():
        network.head.weight.mul_(-1)
    export.write(network, judging_card(), path)  # learned more, and nobody has compiled it again
    again = load(path, CPU)
    assert again.predicts.startswith("ONNX Runtime ")
    after = judge(again, _pictures(1)).probabilities
    assert np.abs(after - before).max() > 0.01
    assert judge(_without_graph(path), _pictures(1)).probabilities == pytest.approx(after, abs=1e-6)


class Doubtful(JudgingNetwork):
    """The same weights, other answers."""

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = 0.9 * self.head(self.features(pictures))
        return logits

    @torch.jit.export
    def judge(self, pictures: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.forward(pictures), pictures.new_zeros(len(pictures), dtype=torch.float32)


def test_graph_with_other_answers_is_not_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write_checkpoint(tmp_path, judges=True)
    main(["compile", str(path)])
    export.write(Doubtful().eval(), judging_card(), path)
    served = load(path, CPU)
    assert served.compiled is None
    assert "TorchScript, because its answers differ by" in served.predicts
    assert "tiny.pt is predicted with TorchScript alone: its answers differ by" in caplog.text
    assert judge(served, _pictures(1)).probabilities == pytest.approx(
        judge(_without_graph(path), _pictures(1)).probabilities
    )


@pytest.mark.parametrize("content", [b"", b"not a graph"])
def test_what_is_no_graph_is_not_used(tmp_path: Path, content: bytes) -> None:
    path = write_checkpoint(tmp_path)
    path.with_suffix(SUFFIX).write_bytes(content)
    list_digest(path.with_suffix(SUFFIX))
    served = load(path, CPU)
    assert served.compiled is None
    assert served.predicts.startswith("TorchScript, because the graph does not fit the network")


@pytest.mark.parametrize("change", ["a changed byte", "not listed"])
def test_graph_that_cannot_be_trusted_is_refused(tmp_path: Path, change: str) -> None:
    path = write_checkpoint(tmp_path)
    graph, sums = path.with_suffix(SUFFIX), tmp_path / CHECKSUMS
    graph.write_bytes(b"graph")
    if change == "a changed byte":
        list_digest(graph)
        graph.write_bytes(b"grapf")
    else:
        assert graph.name not in sums.read_text("utf-8")
    with pytest.raises(CheckpointError, match=r"tiny\.onnx"):
        load(path, CPU)
    assert main(["compile", str(path)]) == 0  # which does not look at what it writes anew
    assert load(path, CPU).predicts.startswith("ONNX Runtime ")


class BorderFree(JudgingNetwork):
    """One that averages windows with the border counted, and divides by a share of what lies inside."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def features(self, pictures: torch.Tensor) -> torch.Tensor:
        windows = pictures.to(self.smooth.weight.dtype) / 255.0
        inside = functional.avg_pool2d(torch.ones_like(windows[:1, :1]), 3, stride=1, padding=1)
        averages = functional.avg_pool2d(windows, 3, stride=1, padding=1) / (self.share * inside)
        means: torch.Tensor = torch.tanh(2.0 * self.smooth(averages)).mean(dim=(2, 3))
        return means


@pytest.mark.parametrize(("share", "divisions"), [(1.0, 0), (0.9, 1)])
def test_border_free_average_needs_no_division(tmp_path: Path, share: float, divisions: int) -> None:
    path = tmp_path / "tiny.pt"
    export.write(BorderFree(share).eval(), judging_card(), path)
    checkpoint = load_torchscript(path, CPU)
    nodes = onnx_of(checkpoint).graph.node
    made_by = {name: node.op_type for node in nodes for name in node.output}
    assert "AveragePool" in made_by.values()
    divided = [made_by.get(node.input[0]) for node in nodes if node.op_type == "Div"]
    assert divided.count("AveragePool") == divisions
    compile_checkpoint(checkpoint, path)
    served, pictures = load(path, CPU), _pictures(3)
    assert served.compiled is not None
    assert judge(served, pictures).difference(judge(checkpoint, pictures)) < 1e-5


def test_gradients_are_torchscripts(path: Path) -> None:
    pictures = torch.from_numpy(_pictures(1)).float().requires_grad_()
    load(path, CPU).network(pictures).sum().backward()
    assert pictures.grad is not None
    assert pictures.grad.abs().sum() > 0


def test_processors_of_a_socket(path: Path) -> None:
    kept = load(path, CPU, threads=2, cpus=frozenset({0}))
    assert kept.predicts.startswith("ONNX Runtime ")
    assert judge(kept, _pictures(2)).sound.all()


def test_network_that_cannot_be_written_down(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_checkpoint(tmp_path, fails_on_white=True)  # which asks about each picture before it answers
    assert main(["compile", str(path)]) == 1
    assert "cannot be compiled" in capsys.readouterr().err
    assert not path.with_suffix(SUFFIX).exists()


_CHILD = """
import sys, time
from pathlib import Path
import torch
from app.loading import load
assert load(Path(sys.argv[1]), torch.device("cpu")).compiled is not None
time.sleep(1)
"""


def test_onnx_runtime_reports_to_nobody(path: Path, tmp_path: Path) -> None:
    places = {name: str(tmp_path) for name in ("HOME", "TMPDIR", "XDG_CACHE_HOME", "XDG_DATA_HOME")}
    env = {k: v for k, v in os.environ.items() if k != "ORT_DISABLE_TELEMETRY"} | places
    env["OMP_NUM_THREADS"] = "1"
    subprocess.run([sys.executable, "-c", _CHILD, str(path)], env=env, check=True)
    left = [str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*") if "torch" not in str(file)]
    assert left == []  # with telemetry there is a session's file


def _pictures(count: int) -> NDArray[np.uint8]:
    """Of one colour each, with some noise."""
    random = np.random.default_rng(count)
    colours = random.integers(0, 240, (count, 3, 1, 1), dtype=np.uint8)
    return colours + random.integers(0, 16, (count, 3, SIDE, SIDE), dtype=np.uint8)


def _without_graph(path: Path) -> Checkpoint:
    graph = path.with_suffix(SUFFIX)
    away = graph.rename(graph.with_suffix(".away"))
    try:
        return load(path, CPU)
    finally:
        away.rename(graph)

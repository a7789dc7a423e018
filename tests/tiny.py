"""A real checkpoint that is built in a moment: its network feels the mean colour of a picture.

Red evokes anger, green joy and blue sadness, so a test can tell a right answer from a wrong one, a channel
swapped on the way included. It keeps the whole contract of `app.checkpoint`.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from app.card import Abstain, Card, DataSource, Score, Split
from app.checkpoint import CARD_FILE, CHECKSUMS, torchscript

if TYPE_CHECKING:
    from pathlib import Path

LABELS = ("anger", "joy", "sadness")
SIDE = 75


def waste(products: int) -> Tensor:
    """Time, in so many matrix products; the script compiles it with the network."""
    wasted = torch.ones(128, 128)
    for _ in range(products):
        wasted = (wasted @ wasted).clamp(0.0, 1.0)
    return wasted


def busywork_of(seconds: float) -> int:
    """How many products take about so long on this machine, when it has nothing else to do."""
    trial, shortest, threads = 200, float("inf"), torch.get_num_threads()
    torch.set_num_threads(1)  # as the services of the tests have; and this thread's clock counts it all
    try:
        for _ in range(10):
            began = time.thread_time()
            waste(trial)
            shortest = min(shortest, time.thread_time() - began)
    finally:
        torch.set_num_threads(threads)
    return math.ceil(seconds * trial / shortest)


class TinyNetwork(nn.Module):
    """Mean of each smoothed and squashed channel, as logits.

    Args:
        busywork: 128 x 128 matrix products in each pass, to make the network slow.
        fails_on_white: raise on a batch with an entirely white picture, as a broken network would.

    Attributes:
        passes: how often it has looked at a batch.
    """

    def __init__(self, busywork: int = 0, *, fails_on_white: bool = False) -> None:
        super().__init__()
        self.busywork = busywork
        self.fails_on_white = fails_on_white
        self.passes = 0
        self.smooth = nn.Conv2d(3, 3, kernel_size=3, stride=2, groups=3, bias=False)
        self.head = nn.Linear(3, 3)
        with torch.no_grad():
            self.smooth.weight.fill_(1 / 9)
            self.head.weight.copy_(4 * torch.eye(3) - 1)
            self.head.bias.zero_()

    def features(self, pictures: Tensor) -> Tensor:
        """``[N, 3]``, the mean of each channel."""
        self.passes += 1
        x = pictures.to(self.smooth.weight.dtype) / 255.0
        if self.fails_on_white and bool((x.amin(dim=(1, 2, 3)) > 0.999).any().item()):
            raise RuntimeError("this network cannot bear white")
        wasted = waste(self.busywork)
        means: Tensor = torch.tanh(2.0 * self.smooth(x)).mean(dim=(2, 3))
        return means + 0.0 * wasted.mean()  # so that nobody optimises the work away

    def forward(self, pictures: Tensor) -> Tensor:
        """Logits ``[N, 3]`` of pictures ``[N, 3, S, S]`` in 0..255, integer or floating point."""
        logits: Tensor = self.head(self.features(pictures))
        return logits


class JudgingNetwork(TinyNetwork):
    """One that also tells how unfamiliar a picture is, and shows its layers: it has never seen the dark."""

    @torch.jit.export
    def judge(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Logits ``[N, 3]`` and novelty ``[N]``, 0 for a white picture and 10 for a black one."""
        means = self.features(pictures)
        return self.head(means), 10.0 * (1.0 - means.amax(dim=1) / 0.97)

    @torch.jit.export
    def activations(self, pictures: Tensor) -> dict[str, Tensor]:
        """Two inner layers, ``[N, 3, h, w]``: the smoothed colours, and how far they are from grey."""
        smooth = self.smooth(pictures.to(self.smooth.weight.dtype) / 255.0)
        return {"smooth": smooth, "squashed": torch.tanh(2.0 * (smooth - 0.5))}


def tiny_card() -> Card:
    """A card with every field filled."""
    return Card(
        name="tiny",
        version="0.0.1",
        created="2026-01-01",
        description="mean colour as an emotion, for tests",
        labels=LABELS,
        input_size=SIDE,
        resize="stretch",
        temperature=1.5,
        target="distribution",
        data=(DataSource(name="none", pictures=0, terms="none", citation="none"),),
        start_weights="set by hand",
        split=Split(
            train=0,
            validation=0,
            test=0,
            seed=0,
            min_agreement=None,
            top_classes=None,
            test_fingerprint="none",
        ),
        scores={"accuracy": Score(value=0.5, low=0.4, high=0.6)},
        references={"chance": {"accuracy": 1 / 3}},
        versions={"torch": torch.__version__},
        seed=0,
        command="python -m tests.tiny",
        limits="not for use",
    )


def judging_card() -> Card:
    """The card of a checkpoint that abstains from dark and from grey pictures, with a valence."""
    more = {
        "valence": {"anger": -0.5, "joy": 1.0, "sadness": -1.0},
        "valence_scale": "made up, -1 to 1",
        "abstain": Abstain(entropy=1.09, novelty=5.0, share=0.02),
    }
    return tiny_card().model_copy(update=more)


def write_checkpoint(
    folder: Path,
    *,
    card: str | None = None,
    busywork: int = 0,
    fails_on_white: bool = False,
    judges: bool = False,
) -> Path:
    """Write ``tiny.pt`` and its checksums into a folder and return the file's path.

    Args:
        folder: must exist.
        card: JSON to store instead of `tiny_card`, or `judging_card` for a network that judges.
        busywork: see `TinyNetwork`.
        fails_on_white: see `TinyNetwork`.
        judges: see `JudgingNetwork`.
    """
    path = folder / "tiny.pt"
    kind, usual = (JudgingNetwork, judging_card) if judges else (TinyNetwork, tiny_card)
    network = kind(busywork, fails_on_white=fails_on_white).half().eval()
    text = usual().model_dump_json() if card is None else card
    with torchscript():
        script = torch.jit.script(network)
        torch.jit.save(script, str(path), _extra_files={CARD_FILE: text})
    write_sums(path)
    return path


def write_sums(path: Path) -> None:
    """List the file's digest beside it, as ``sha256sum`` would."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    (path.parent / CHECKSUMS).write_text(f"{digest}  {path.name}\n", "utf-8")


def card_without(*fields: str) -> str:
    """The tiny card's JSON with some fields left out."""
    card = tiny_card().model_dump(mode="json")
    return json.dumps({name: value for name, value in card.items() if name not in fields})

"""The checkpoint: the only bridge between training and the service.

A checkpoint is one TorchScript file that maps ``uint8`` pictures ``[N, 3, S, S]`` (or floating point ones
in 0..255) to logits ``[N, K]``, with a card in its extra files. One whose card has thresholds for abstaining
also has a method ``judge``, which gives the logits and the novelty ``[N]`` of the pictures in one pass. One
that shows its inner layers has a method ``activations``, which gives each layer's output by name. The weights
are stored in half precision; `load` widens them to single precision. The file is used only when
``SHA256SUMS`` beside it lists its digest, and so is the graph beside it that `app.compiled` predicts with.
``NAME.int8.onnx`` is another such graph, in 8-bit integers, for those who ask for it; ``NAME.float16.json``
tells what half precision on a GPU changes.
"""

from __future__ import annotations

import hashlib
import io
import warnings
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
import torch
from pydantic import ValidationError

from app.card import SMALLEST_SIDE, Card

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from app.card import Quantised

CARD_FILE = "card.json"
CHECKSUMS = "SHA256SUMS"
TORCHSCRIPT = "TorchScript"
Precision = Literal["float32", "float16", "int8"]


class CheckpointError(Exception):
    """The checkpoint cannot be trusted or read; the message says why."""


class Computing(Protocol):
    """What computes a network's judgement in its own way."""

    @property
    def name(self) -> str:
        """In words."""

    def __call__(self, pictures: NDArray[np.uint8]) -> tuple[torch.Tensor, ...]:
        """Logits ``[N, K]``, and novelty ``[N]`` if the network has it, of ``uint8 [N, 3, S, S]``."""


@dataclass(frozen=True)
class Checkpoint:
    """A loaded checkpoint.

    Attributes:
        network: in evaluation mode, single precision, on `device`; logits ``[N, K]`` of pictures
            ``[N, 3, S, S]`` in 0..255, differentiable with respect to floating point pictures.
        card: what the file says of itself.
        sha256: hexadecimal digest of the file.
        device: where the network is.
        layers: names of the inner layers that ``activations`` shows, from the first to the last.
        compiled: computes the same as the network's judgement in less time; None for what has no such thing.
        stream: does so on the thread that calls it, whichever and however many do so at once; or None.
        predicts: what computes predictions, in words.
        precision: of predictions.
        quantised: what predicting in a lower precision changes; None in single precision.
    """

    network: torch.jit.ScriptModule
    card: Card
    sha256: str
    device: torch.device
    layers: tuple[str, ...] = ()
    compiled: Computing | None = None
    stream: Computing | None = None
    predicts: str = TORCHSCRIPT
    precision: Precision = "float32"
    quantised: Quantised | None = None

    def as_stream(self) -> Checkpoint:
        """The same, which predicts as one of several streams."""
        return replace(self, compiled=self.stream)


@dataclass(frozen=True)
class Judged:
    """What a checkpoint says of some pictures.

    Attributes:
        probabilities: ``[N, K]``, the share of people expected to feel each emotion; each row sums to 1.
        novelty: ``[N]``, how far each picture is from those that the network learned from; None for a
            checkpoint that cannot tell.
    """

    probabilities: NDArray[np.float64]
    novelty: NDArray[np.float64] | None

    @property
    def sound(self) -> NDArray[np.bool_]:
        """``[N]``, whether all that is said of a picture are numbers."""
        sums = self.probabilities.sum(axis=1)  # not a number if any share is none
        numbers: NDArray[np.bool_] = np.isfinite(sums if self.novelty is None else sums + self.novelty)
        return numbers

    def novelty_of(self, picture: int) -> float | None:
        """The novelty of one picture."""
        return None if self.novelty is None else float(self.novelty[picture])

    def difference(self, other: Judged) -> float:
        """The largest of a probability, or of the novelty; not a number if any of them is none."""
        differences = [np.abs(self.probabilities - other.probabilities).max()]
        if self.novelty is not None and other.novelty is not None:
            differences.append(np.abs(self.novelty - other.novelty).max())
        return float(np.max(differences))


@contextmanager
def torchscript() -> Iterator[None]:
    """Silence the one warning that says TorchScript is deprecated, and no other."""
    with warnings.catch_warnings():
        for category in (FutureWarning, DeprecationWarning):  # torch changed its mind between releases
            warnings.filterwarnings("ignore", r"`torch\.jit\.\w+` is deprecated", category)
        yield


def sha256_of(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def listed_sha256(path: Path) -> str:
    """The digest that ``SHA256SUMS`` beside the file lists for it.

    Raises:
        CheckpointError: there is no such list, or it does not name the file.
    """
    sums = path.parent / CHECKSUMS
    if not sums.is_file():
        raise CheckpointError(f"{sums} is missing: it must list the sha256 of {path.name}")
    for line in sums.read_text("utf-8", errors="replace").splitlines():
        digest, name = split_sum(line)
        if name == path.name:
            return digest.lower()
    raise CheckpointError(f"{sums} does not list {path.name}")


def split_sum(line: str) -> tuple[str, str]:
    """Digest and file name of one line that ``sha256sum`` wrote, in text or binary mode."""
    digest, _, name = line.partition(" ")
    return digest, name.strip().removeprefix("*")


def verified(path: Path) -> tuple[bytes, str]:
    """What is in the file, and its digest, which is the listed one.

    Use these bytes and do not read the file again: it may have been replaced meanwhile.

    Raises:
        CheckpointError: the file is missing, cannot be read, is not listed, or not the listed one.
    """
    try:
        if not path.is_file():
            whole = path.absolute()  # the setting may be relative
            raise CheckpointError(f"there is no checkpoint at {whole}")
        expected, data = listed_sha256(path), path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{error.filename or path} cannot be read: {error.strerror}") from error
    actual = hashlib.sha256(data).hexdigest()
    if actual != expected:
        raise CheckpointError(f"{path} has sha256 {actual}, but {CHECKSUMS} lists {expected}")
    return data, actual


def load_torchscript(path: Path, device: torch.device) -> Checkpoint:
    """Verify and load the file of record alone, whatever lies beside it.

    Raises:
        CheckpointError: the file is not `verified`, is no TorchScript file, has no valid card, or does not
            fit on the device.
    """
    data, digest = verified(path)  # before anything is parsed: a TorchScript file is code
    extra = {CARD_FILE: ""}
    try:
        with torchscript():
            network = torch.jit.load(io.BytesIO(data), map_location="cpu", _extra_files=extra)  # type: ignore[no-untyped-call]
    except RuntimeError as error:
        raise CheckpointError(f"{path} is not a TorchScript file: {error}") from error
    try:
        card = Card.model_validate_json(extra[CARD_FILE])
    except ValidationError as error:
        raise CheckpointError(f"the card in {path} is not valid: {error}") from error
    if card.abstain is not None and not hasattr(network, "judge"):
        raise CheckpointError(
            f"the card in {path} has thresholds to abstain by, but the network has no judge()"
        )
    network = network.float().eval()
    for weight in network.parameters():  # a ScriptModule has no requires_grad_ of its own
        weight.requires_grad_(requires_grad=False)
    layers = _layers(network)  # while it is on no device that somebody may be using
    try:
        network = network.to(device=device, memory_format=torch.channels_last)
    except RuntimeError as error:  # its memory is full, or another process has it for itself
        raise CheckpointError(f"the network in {path} cannot be put on {device}: {error}") from error
    return Checkpoint(network, card, digest, device, layers)


@torch.inference_mode()
def _layers(network: torch.jit.ScriptModule) -> tuple[str, ...]:
    """The names that only a pass of the network tells; the smallest picture will do."""
    if not hasattr(network, "activations"):
        return ()
    return tuple(network.activations(torch.zeros(1, 3, SMALLEST_SIDE, SMALLEST_SIDE)))


def judging(checkpoint: Checkpoint) -> Callable[[torch.Tensor], tuple[torch.Tensor, ...]]:
    """The network as a function of pictures ``[N, 3, S, S]`` to logits, and novelty if it has it."""
    network = checkpoint.network
    if checkpoint.card.abstain is not None:
        judge_them: Callable[[torch.Tensor], tuple[torch.Tensor, ...]] = network.judge
        return judge_them
    return lambda pictures: (network(pictures),)


@torch.inference_mode()
def judge(checkpoint: Checkpoint, pictures: NDArray[np.uint8]) -> Judged:
    """What the checkpoint says of pictures, in one pass of the network.

    Args:
        checkpoint: whose device is used.
        pictures: ``uint8 [N, 3, S, S]``.
    """
    if checkpoint.compiled is not None:
        logits, *more = checkpoint.compiled(pictures)
    else:
        inputs = torch.from_numpy(pictures).to(checkpoint.device, memory_format=torch.channels_last)
        logits, *more = judging(checkpoint)(inputs)
    novelty = more[0] if more else None
    shares = torch.softmax(logits.double() / checkpoint.card.temperature, dim=1)
    return Judged(np.asarray(shares.cpu()), None if novelty is None else np.asarray(novelty.double().cpu()))


def probabilities(checkpoint: Checkpoint, pictures: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The probabilities of `judge` alone."""
    return judge(checkpoint, pictures).probabilities

"""The checkpoint: the only bridge between training and the service.

A checkpoint is one TorchScript file that maps ``uint8`` pictures ``[N, 3, S, S]`` (or floating point ones
in 0..255) to logits ``[N, K]``, with a card in its extra files. One whose card has thresholds for abstaining
also has a method ``judge``, which gives the logits and the novelty ``[N]`` of the pictures in one pass. The
weights are stored in half precision; `load` widens them to single precision. The file is used only when
``SHA256SUMS`` beside it lists its digest.
"""

from __future__ import annotations

import hashlib
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Self

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

CARD_FILE = "card.json"
CHECKSUMS = "SHA256SUMS"
SMALLEST_SIDE = 75
"""Inception-V3 has no output for a smaller picture."""


class CheckpointError(Exception):
    """The checkpoint cannot be trusted or read; the message says why."""


class _CardPart(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Score(_CardPart):
    """One measured figure with its 95 % interval."""

    value: float
    low: float
    high: float


class DataSource(_CardPart):
    """One set of rated pictures that the checkpoint learned from."""

    name: str
    pictures: int
    terms: str = Field(description="what the owners of the pictures allow")
    citation: str


class Split(_CardPart):
    """How the pictures were divided; enough to divide them again in the same way."""

    train: int
    validation: int
    test: int
    seed: int
    min_agreement: float | None
    top_classes: int | None
    test_fingerprint: str = Field(description="digest of the test pictures' names")
    test_share: float = Field(default=0.2, description="of all pictures; 0 where all were trained on")
    validation_share: float = Field(default=0.125, description="of the pictures that are not for the test")
    fingerprint: str | None = Field(default=None, description="digest of the names of all pictures")


class Spread(_CardPart):
    """Mean and standard deviation of a figure over the folds of a cross-validation."""

    mean: float
    sd: float


class CrossValidation(_CardPart):
    """How scores were measured that are not those of one network's test pictures.

    Each of `networks` was trained like the checkpoint, on the pictures of all folds but one, and scored on
    those of that fold. Each picture was left out once in each repeat.
    """

    folds: int = Field(ge=2)
    repeats: int = Field(ge=1)
    pictures: int
    seed: int
    spread: dict[str, Spread] = Field(description="of each figure over the folds of all repeats")
    differs: tuple[str, ...] = Field(
        default=(), description="settings that the checkpoint was trained with otherwise than the folds"
    )

    @property
    def networks(self) -> int:
        """How many were trained."""
        return self.folds * self.repeats


class Abstain(_CardPart):
    """Above which figures a prediction should not be relied on."""

    entropy: float = Field(ge=0, description="nats; a distribution above it is flat")
    novelty: float = Field(
        description="distance of a picture's features from those of the training pictures; one above it is "
        "unfamiliar"
    )
    share: float = Field(
        ge=0, le=1, description="of held-out pictures of the same kind, that each of the two flags"
    )


class Confusion(_CardPart):
    """Scored pictures by dominant emotion: a row as rated, a column as predicted."""

    labels: tuple[str, ...]
    counts: tuple[tuple[float, ...], ...] = Field(description="a mean over repeats where there were some")


class ReliabilityBin(_CardPart):
    """Predictions of like confidence, and how the raters answered."""

    low: float = Field(description="of the predicted share")
    high: float
    confidence: float = Field(description="mean predicted share")
    rated: float = Field(description="mean share of the raters who chose the predicted emotion")
    count: int = Field(description="predictions in the bin")


class CardPlots(_CardPart):
    """What is drawn of the scores."""

    confusion: Confusion
    reliability: tuple[ReliabilityBin, ...] = Field(
        description="of the predicted dominant emotion, over bins of its share that are not empty"
    )


class Card(_CardPart):
    """What a checkpoint is, where it comes from and how good it is."""

    format: Literal[1] = 1
    name: str
    version: str
    created: str = Field(description="ISO 8601 date")
    description: str
    labels: tuple[str, ...] = Field(min_length=2, description="evoked emotions, in the order of the logits")
    input_size: int = Field(ge=SMALLEST_SIDE, description="side S of the square input, in pixels")
    resize: Literal["stretch"] = Field(description="how a picture becomes S x S: stretched, nothing cut off")
    temperature: float = Field(gt=0, description="logits are divided by it before the softmax")
    target: Literal["distribution", "class"]
    data: tuple[DataSource, ...]
    start_weights: str
    split: Split
    scores: dict[str, Score]
    references: dict[str, dict[str, float]] = Field(
        description="what chance, the majority class, the mean distribution and the raters themselves score"
    )
    versions: dict[str, str]
    seed: int
    command: str = Field(description="the commands that made this file")
    note: str = Field(default="", description="what else a reader of the scores should know")
    limits: str = Field(description="what the checkpoint must not be used for")
    valence: dict[str, float] | None = Field(
        default=None, description="how pleasant each emotion is; None where nobody has said"
    )
    valence_scale: str | None = Field(
        default=None, description="what the figures of `valence` mean, and whose they are"
    )
    abstain: Abstain | None = Field(
        default=None, description="None for a checkpoint that cannot tell what it does not know"
    )
    cross_validation: CrossValidation | None = Field(
        default=None, description="None where the scores are those of this file on its test pictures"
    )
    plots: CardPlots | None = Field(default=None, description="None for cards from before there were some")

    @field_validator("labels")
    @classmethod
    def _labels_differ(cls, labels: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(labels)) < len(labels):
            raise ValueError("the labels must differ from each other")
        return labels

    @model_validator(mode="after")
    def _every_emotion_has_a_valence(self) -> Self:
        if self.valence is not None and set(self.valence) != set(self.labels):
            raise ValueError("valence must have a figure for each label, and for nothing else")
        if (self.valence is None) != (self.valence_scale is None):
            raise ValueError("valence and valence_scale go together")
        return self


@dataclass(frozen=True)
class Checkpoint:
    """A loaded checkpoint.

    Attributes:
        network: in evaluation mode, single precision, on `device`; logits ``[N, K]`` of pictures
            ``[N, 3, S, S]`` in 0..255, differentiable with respect to floating point pictures.
        card: what the file says of itself.
        sha256: hexadecimal digest of the file.
        device: where the network is.
    """

    network: torch.jit.ScriptModule
    card: Card
    sha256: str
    device: torch.device


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


def verify(path: Path) -> str:
    """Check the file against its listed digest and return the digest.

    Raises:
        CheckpointError: the file is missing, not listed, or not the listed one.
    """
    if not path.is_file():
        raise CheckpointError(f"there is no checkpoint at {path}")
    expected, actual = listed_sha256(path), sha256_of(path)
    if actual != expected:
        raise CheckpointError(f"{path} has sha256 {actual}, but {CHECKSUMS} lists {expected}")
    return actual


def load(path: Path, device: torch.device) -> Checkpoint:
    """Verify and load a checkpoint onto a device.

    Raises:
        CheckpointError: the file fails `verify`, is no TorchScript file, or has no valid card.
    """
    digest = verify(path)  # before anything is parsed: a TorchScript file is code
    extra = {CARD_FILE: ""}
    try:
        with torchscript():
            network = torch.jit.load(str(path), map_location="cpu", _extra_files=extra)  # type: ignore[no-untyped-call]
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
    network = network.to(device=device, memory_format=torch.channels_last)
    return Checkpoint(network, card, digest, device)


@torch.inference_mode()
def judge(checkpoint: Checkpoint, pictures: NDArray[np.uint8]) -> Judged:
    """What the checkpoint says of pictures, in one pass of the network.

    Args:
        checkpoint: whose device is used.
        pictures: ``uint8 [N, 3, S, S]``.
    """
    inputs = torch.from_numpy(pictures).to(checkpoint.device, memory_format=torch.channels_last)
    novelty: torch.Tensor | None = None
    if checkpoint.card.abstain is None:
        logits = checkpoint.network(inputs)
    else:
        logits, novelty = checkpoint.network.judge(inputs)
    shares = torch.softmax(logits.double() / checkpoint.card.temperature, dim=1)
    return Judged(np.asarray(shares.cpu()), None if novelty is None else np.asarray(novelty.double().cpu()))


def probabilities(checkpoint: Checkpoint, pictures: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The probabilities of `judge` alone."""
    return judge(checkpoint, pictures).probabilities

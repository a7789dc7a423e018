"""The card in a checkpoint: what the network is, where it comes from and how good it is."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

SMALLEST_SIDE = 75
"""Inception-V3 has no output for a smaller picture."""


class _CardPart(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Score(_CardPart):
    """One measured figure with its 95 % interval."""

    value: float
    low: float
    high: float


class Quantised(_CardPart):
    """What predicting in a lower precision than single changes, as it was measured."""

    sha256: str = Field(description="of the checkpoint that it was measured of")
    pictures: int = Field(description="held-out pictures that `changes` were measured on")
    changes: dict[str, Score] = Field(
        description="what each figure changes by when the lower precision predicts"
    )
    answers: list[list[float]] = Field(
        description="probabilities of the pictures that try out every load, where it was measured"
    )


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
    with_test: bool = Field(default=False, description="whether the pictures for the test were learned, too")
    validation_fingerprint: str | None = Field(
        default=None, description="digest of the names of the validation pictures"
    )


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


class StandIn(_CardPart):
    """The checkpoint whose scores a card shows, because its own has learned from the pictures for the test.

    How far the two differ is measured on the validation pictures. Neither has learned from them, but they
    have chosen each one's temperature, and its epoch or how closely its last layer fits.
    """

    release: str = Field(description="name@version")
    sha256: str
    train: int = Field(description="pictures of the last set that it has learned from")
    test: int = Field(description="pictures that it was scored on")
    changes: dict[str, Score] = Field(
        description="what each figure changes by from it to this checkpoint, on the validation pictures"
    )


class Abstain(_CardPart):
    """Above which figures a prediction should not be relied on."""

    entropy: float = Field(ge=0, description="nats; a distribution above it is flat")
    novelty: float = Field(
        description="distance of a picture's features from those of the training pictures; one above it is "
        "unfamiliar"
    )
    share: float = Field(
        ge=0, le=1, description="of held-out pictures of the same kind, that each of the two was set to flag"
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
    scores: dict[str, Score] = Field(
        description="of this checkpoint, unless `cross_validation` or `stand_in` says whose"
    )
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
        default=None, description="None where no folds were scored in place of this checkpoint"
    )
    stand_in: StandIn | None = Field(
        default=None, description="None where no other checkpoint was scored in place of this one"
    )
    plots: CardPlots | None = Field(default=None, description="None for cards from before there were some")

    @property
    def release(self) -> str:
        """What the checkpoint is called where one word has to say it: name@version."""
        return f"{self.name}@{self.version}"

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

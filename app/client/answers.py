"""What the client gives back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Mapping

    from app.client.errors import ClientError

Given = TypeVar("Given")


@dataclass(frozen=True)
class Dominant:
    """The most probable emotion."""

    emotion: str
    probability: float


@dataclass(frozen=True)
class ModelName:
    """Which checkpoint answered; the digest names it without doubt."""

    name: str
    version: str
    sha256: str


@dataclass(frozen=True)
class ImageFacts:
    """The picture as the service understood it: upright, in pixels; its format by its bytes."""

    width: int
    height: int
    format: str


@dataclass(frozen=True)
class Prediction:
    """Which emotions a picture evokes.

    Attributes:
        distribution: probability of each emotion, in the order of the checkpoint's card; they sum to 1.
        dominant: the most probable.
        entropy: of the distribution, in nats; 0 when one emotion is certain.
        novelty: how far the picture is from those that the checkpoint learned from; None if it cannot tell.
        abstained: whether the prediction should not be relied on; a checkpoint whose card has no ``abstain``
            never says so.
        abstained_because: ``flat`` or ``unfamiliar``; None if it did not abstain.
        valence: how pleasant the feeling is, on the scale that the card names; None if it has none.
        model: what answered.
        image: the picture.
        request_id: names the request in the service's log.
    """

    distribution: Mapping[str, float]
    dominant: Dominant
    entropy: float
    novelty: float | None
    abstained: bool
    abstained_because: str | None
    valence: float | None
    model: ModelName
    image: ImageFacts
    request_id: str

    def top(self, count: int) -> tuple[Dominant, ...]:
        """So many of the emotions, the most probable first; all if there are fewer."""
        ranked = sorted(self.distribution.items(), key=lambda each: -each[1])
        return tuple(Dominant(emotion, share) for emotion, share in ranked[: max(count, 0)])


@dataclass(frozen=True)
class ExplanationImage:
    """Which parts of a picture evoke an emotion, as a PNG.

    Attributes:
        png: the file.
        emotion: that it explains; of a sheet the most probable, and beside a layer, too.
        layer: the inner layer that is explained instead, if one was asked for.
        probability: of that emotion.
        evidence: whether the map shows anything; a flat one means that nothing in the picture stands out.
        completeness_error: how far the map's sum is from the rise of the emotion's log-odds, relatively.
        imbalance: by how much what raises and what lowers had to be weighed against each other to get there.
        abstained_because: why the prediction should not be relied on, see `Prediction`; None from a service
            that does not say it yet, too.
        quality: how far and how finely the dream went.
        model: name@version of the checkpoint.
        request_id: names the request in the service's log.
    """

    png: bytes
    emotion: str
    layer: str | None
    probability: float
    evidence: bool
    completeness_error: float
    imbalance: float
    abstained_because: str | None
    quality: str
    model: str
    request_id: str

    @property
    def abstained(self) -> bool:
        """Whether the prediction, and so its map, should not be relied on."""
        return self.abstained_because is not None


@dataclass(frozen=True)
class Region:
    """A connected part of the picture that speaks for an emotion, or against it.

    Attributes:
        left: first column, in pixels of the upright picture.
        top: first row.
        right: first column that is not part of it.
        bottom: first row that is not part of it.
        share: of all evidence in the map, for and against together.
        effect: ``raises`` or ``lowers``.
    """

    left: int
    top: int
    right: int
    bottom: int
    share: float
    effect: str


@dataclass(frozen=True)
class RawMap:
    """The whole map, to be stretched over the picture.

    Attributes:
        form: ``png``, 16-bit grey, or ``npz``, NumPy's, in which the array is called ``relevance``.
        side: rows and columns.
        zero: the value that means no evidence.
        unit: log-odds are ``(value - zero) * unit``.
        data: the file.
    """

    form: str
    side: int
    zero: int
    unit: float
    data: bytes


@dataclass(frozen=True)
class Evidence:
    """What in the picture raises or lowers one emotion, for programs.

    Attributes:
        emotion: that is explained; beside a layer, the dominant one.
        layer: the inner layer that is explained instead, if one was asked for.
        probability: of the emotion.
        evidence: see `ExplanationImage`.
        rise: of the emotion's log-odds along the dream.
        completeness_error: how far the map's sum is from `rise`, relatively.
        imbalance: see `ExplanationImage`.
        regions: with the most evidence first.
        map: all of it, if it was asked for.
    """

    emotion: str
    layer: str | None
    probability: float
    evidence: bool
    rise: float
    completeness_error: float
    imbalance: float
    regions: tuple[Region, ...]
    map: RawMap | None


@dataclass(frozen=True)
class Explanation:
    """Which parts of a picture evoke an emotion, for programs.

    Attributes:
        explanations: one; one an emotion if all were asked for, the most probable first.
        quality: how far and how finely the dream went.
        distribution: of the prediction that is explained, see `Prediction`; empty from a service that does
            not say it yet.
        entropy: of it; None likewise, as are the next two.
        novelty: see `Prediction`.
        valence: likewise.
        abstained_because: why the prediction should not be relied on, see `Prediction`.
        model: what answered.
        image: the picture.
        request_id: names the request in the service's log.
    """

    explanations: tuple[Evidence, ...]
    quality: str
    distribution: Mapping[str, float]
    entropy: float | None
    novelty: float | None
    valence: float | None
    abstained_because: str | None
    model: ModelName
    image: ImageFacts
    request_id: str

    @property
    def abstained(self) -> bool:
        """Whether the prediction, and so all that explains it, should not be relied on."""
        return self.abstained_because is not None


@dataclass(frozen=True)
class ModelInfo:
    """The checkpoint that answers.

    Attributes:
        name: with `version` for people.
        version: likewise.
        sha256: names it without doubt.
        labels: the emotions it knows, in the order of every distribution.
        devices: where the service computes.
        predicts: what computes predictions there.
        layers: inner layers that an explanation can be of.
        card: all that the checkpoint says of itself: training data and its terms, scores, limits.
    """

    name: str
    version: str
    sha256: str
    labels: tuple[str, ...]
    devices: tuple[str, ...]
    predicts: str
    layers: tuple[str, ...]
    card: Mapping[str, Any]


@dataclass(frozen=True)
class Outcome(Generic[Given]):
    """What became of one of many pictures.

    Attributes:
        picture: as it was given.
        prediction: None if there is an error.
        error: None if there is a prediction; an `OSError` is about a file here.
    """

    picture: Given
    prediction: Prediction | None = None
    error: ClientError | OSError | None = None

    def get(self) -> Prediction:
        """The prediction; the error is raised if there is none."""
        if self.error is not None:
            raise self.error
        if self.prediction is None:
            raise ValueError("an outcome has a prediction or an error")
        return self.prediction

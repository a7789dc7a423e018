"""What is said of a distribution of emotions, the same words and figures wherever it is told."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from app.card import Card

Reason = Literal["flat", "unfamiliar"]


def described(
    card: Card, probabilities: Sequence[float], novelty: float | None, top_k: int | None = None
) -> dict[str, Any]:
    """All that follows from a checkpoint's answer to one picture.

    Args:
        card: of the checkpoint.
        probabilities: in the order of its labels.
        novelty: of the picture; None from a checkpoint that cannot tell.
        top_k: so many of the most probable emotions are listed apart; None lists none.
    """
    shares = [float(share) for share in probabilities]
    pairs = sorted(zip(card.labels, shares, strict=True), key=lambda pair: -pair[1])
    ranked = [{"emotion": label, "probability": share} for label, share in pairs]
    reason = why_abstain(card, shares, novelty)
    return {
        "distribution": dict(zip(card.labels, shares, strict=True)),
        "dominant": ranked[0],
        "top": None if top_k is None else ranked[:top_k],
        "entropy": entropy(shares),
        "novelty": novelty,
        "abstained": reason is not None,
        "abstained_because": reason,
        "valence": valence(card, shares),
    }


def entropy(probabilities: Sequence[float]) -> float:
    """Shannon's entropy in nats: 0 when all people feel the same, log K when no emotion is ahead."""
    return math.fsum(-share * math.log(share) for share in probabilities if share > 0)


def why_abstain(card: Card, probabilities: Sequence[float], novelty: float | None) -> Reason | None:
    """Why the answer should not be relied on; None if nothing speaks against it, or nothing can tell.

    A picture that is unlike all that the network learned from is called that, whatever the distribution
    looks like: its flatness, too, is then only a guess.
    """
    if card.abstain is None:
        return None
    if novelty is not None and novelty > card.abstain.novelty:
        return "unfamiliar"
    return "flat" if entropy(probabilities) > card.abstain.entropy else None


def valence(card: Card, probabilities: Sequence[float]) -> float | None:
    """The mean over people of how pleasant their emotion is, on the card's scale; None if it has none."""
    if card.valence is None:
        return None
    figures = (card.valence[label] for label in card.labels)
    return math.fsum(share * figure for share, figure in zip(probabilities, figures, strict=True))

"""The outputs of the Open Inference Protocol: what a model can give by name, and predictions in that form."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from app.distribution import described

if TYPE_CHECKING:
    from collections.abc import Container, Sequence

    from app.card import Card
    from app.engine import Prediction


def outputs(card: Card) -> list[dict[str, Any]]:
    """Name, datatype and shape of each; those that the checkpoint cannot tell are not there."""
    known = [("probabilities", "FP32"), ("label", "BYTES"), ("entropy", "FP32")]
    if card.valence is not None:
        known.append(("valence", "FP32"))
    if card.abstain is not None:
        known += [("novelty", "FP32"), ("abstained", "BOOL"), ("abstained_because", "BYTES")]
    return [
        {
            "name": name,
            "datatype": datatype,
            "shape": [-1, len(card.labels)] if name == "probabilities" else [-1],
        }
        for name, datatype in known
    ]


def filled(
    card: Card, predictions: Sequence[Prediction], wanted: Container[str] | None
) -> list[dict[str, Any]]:
    """The outputs with their data.

    Args:
        card: of the checkpoint that answered.
        predictions: one a picture.
        wanted: names of outputs; None is all.
    """
    said = [described(card, each.probabilities.tolist(), each.novelty) for each in predictions]
    data: dict[str, list[Any]] = {
        "probabilities": [share for each in said for share in each["distribution"].values()],
        "label": [each["dominant"]["emotion"] for each in said],
        "abstained_because": [each["abstained_because"] or "" for each in said],
    }
    return [
        output
        | {
            "shape": [len(said), *output["shape"][1:]],
            "data": data.get(output["name"]) or [each[output["name"]] for each in said],
        }
        for output in outputs(card)
        if wanted is None or output["name"] in wanted
    ]

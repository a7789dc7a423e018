"""``deepemotion card``."""

from typing import TYPE_CHECKING

from app.cli.common import AsJson, Checkpoint, console, print_json, print_table, refusals, settings_from

if TYPE_CHECKING:
    from collections.abc import Mapping

    from app.card import Card


def card(*, json: AsJson = False, checkpoint: Checkpoint = None) -> None:
    """Show what a checkpoint says of itself: emotions, training data and its terms, scores, limits.

    With --json: the card, the file's sha256, what predicts, what 8-bit integers change if they do, and the
    inner layers, as in GET /v1/model.
    """
    settings = settings_from(checkpoint=checkpoint)
    with refusals():
        import torch

        from app.loading import load
        from app.offline.loading import checkpoint_path

        # Half precision is for GPUs; what the card says is the same in every precision.
        precision = "float32" if settings.precision == "float16" else settings.precision
        loaded = load(checkpoint_path(settings), torch.device("cpu"), precision=precision)
    if json:
        card = loaded.card.model_dump(mode="json")
        print_json(
            {
                "card": card,
                "sha256": loaded.sha256,
                "predicts": loaded.predicts,
                "quantised": loaded.quantised and loaded.quantised.model_dump(mode="json"),
                "layers": loaded.layers,
            }
        )
        return
    _print_facts(loaded.card, loaded.sha256)
    _print_scores(loaded.card)
    print_table(
        [(name, text) for name, text in (("note", loaded.card.note), ("limits", loaded.card.limits)) if text]
    )


def _print_facts(card: "Card", sha256: str) -> None:
    learned = {"distribution": "the whole distribution", "class": "the dominant emotion"}[card.target]
    facts = [
        ("checkpoint", f"{card.release}, {card.created}"),
        ("sha256", sha256),
        ("description", card.description),
        ("emotions", ", ".join(card.labels)),
        ("input", f"{card.input_size} x {card.input_size} pixels, {card.resize}ed"),
        ("learned", f"{learned}; temperature {card.temperature:.3f}; seed {card.seed}"),
        ("scored", how_scored(card)),
        ("start weights", card.start_weights),
        *(
            [("valence", f"{_pairs(card.valence)} ({card.valence_scale})")]
            if card.valence is not None
            else []
        ),
        ("abstains", _thresholds(card)),
        *(("data", f"{d.name}, {d.pictures:,} pictures. {d.citation}. Terms: {d.terms}") for d in card.data),
        ("versions", ", ".join(f"{name} {version}" for name, version in card.versions.items())),
        ("command", card.command),
    ]
    print_table(facts)


def how_scored(card: "Card") -> str:
    """On which pictures, in words."""
    split, folds = card.split, card.cross_validation
    if (other := card.stand_in) is not None:
        by = other.changes["kl"]
        return (
            f"not this network, which learned from the pictures for test, too, {split.train:,} of this set, "
            f"but {other.release}, which learned from {other.train:,} of it, on the {other.test:,} for test; "
            f"on {split.validation:,} that neither has learned from, but that chose each one's temperature, "
            f"this network's KL, which is better when lower, differs from that one's by {by.value:+.3f} "
            f"({by.low:+.3f} to {by.high:+.3f})"
        )
    if folds is None:
        return (
            f"on {split.test:,} pictures for test; {split.train:,} were for training and "
            f"{split.validation:,} for validation"
        )
    differs = f"; this one was trained otherwise in {', '.join(folds.differs)}" if folds.differs else ""
    return (
        f"not this network, which learned from {split.train:,} of {folds.pictures:,} pictures, but "
        f"{folds.networks} like it, each on a part of the pictures, of {folds.folds}, that it was trained "
        f"without{differs}"
    )


def _pairs(figures: "Mapping[str, float]") -> str:
    return ", ".join(f"{name} {figure:.3g}" for name, figure in figures.items())


def _thresholds(card: "Card") -> str:
    if card.abstain is None:
        return "never: it cannot tell what it does not know"
    at = card.abstain
    return (
        f"above an entropy of {at.entropy:.3g} nats or a novelty of {at.novelty:.3g}; "
        f"each was set to flag {at.share:.1%} of held-out pictures"
    )


def _print_scores(card: "Card") -> None:
    """Each figure with its interval, beside what simpler answers reach on the same pictures."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    scored_on = "on the test pictures" if card.cross_validation is None else "on pictures left out"
    if card.stand_in is not None:
        scored_on = f"{card.stand_in.release} {scored_on}"
    table = Table(scored_on, box=SIMPLE_HEAD)
    table.add_column("score (95 % interval)", no_wrap=True)
    for reference in card.references:
        table.add_column(reference, justify="right")
    for name, score in card.scores.items():
        others = [figures.get(name) for figures in card.references.values()]
        table.add_row(
            name,
            f"[bold]{score.value:.3f}[/bold] ({score.low:.3f} to {score.high:.3f})",
            *("" if other is None else f"{other:.3f}" for other in others),
        )
    console().print(table)

"""``crossval``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.cross_validate import Plan, cross_validate
from training.division import describe_split
from training.verbs import options, reading
from training.verbs.printing import OUT, print_confusion, print_scores

if TYPE_CHECKING:
    import argparse


def add(verbs: argparse._SubParsersAction[Any], pictures: argparse.ArgumentParser) -> None:
    """Tell the command line of this verb."""
    verb = verbs.add_parser(
        "crossval",
        parents=[pictures, options.filter_options(), options.device_option()],
        help="score a way of training on every picture, each left out in turn",
    )
    verb.add_argument("--out", type=Path, required=True, help="folder for the runs and what they predict")
    verb.add_argument("--folds", type=int, default=5)
    verb.add_argument("--repeats", type=int, default=1, help="with other folds")
    verb.add_argument("--resume", action="store_true", help="go on; finished folds are kept")
    options.add_validation_share(verb, default=0.0)  # as `fit --all-pictures`, whose figures these become
    options.add_fit_settings(verb)
    verb.set_defaults(verb=_crossval)


def _crossval(chosen: argparse.Namespace) -> None:
    settings = options.fit_settings(chosen)
    rated = reading.filtered(chosen, chosen.min_agreement, chosen.top_classes)
    plan = Plan(folds=chosen.folds, repeats=chosen.repeats, validation_share=chosen.validation_share)
    recorded = describe_split(
        rated,
        None,
        seed=settings.seed,
        min_agreement=chosen.min_agreement,
        top_classes=chosen.top_classes,
        test_share=0.0,
        validation_share=0.0,
    )
    found = cross_validate(
        rated,
        settings,
        plan,
        chosen.out,
        device=chosen.device,
        workers=chosen.workers,
        resume=chosen.resume,
        notes={"split": recorded.model_dump(), "command": reading.command(chosen, "--resume")},
        seen_test=chosen.seen_test,
    )
    print_scores(found.scores, found.references)
    print_confusion(found.plots.confusion)
    for name, spread in found.cross_validation.spread.items():
        OUT.print(f"{name}: {spread.mean:.3f}, SD over folds {spread.sd:.3f}", style="dim")
    OUT.print(f"temperature {found.temperature:.3f}; written to {chosen.out}")

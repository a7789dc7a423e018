"""Whether the explanation maps can be believed, measured beside other methods and beside chance.

    python -m bench.explain --data FOLDER

FOLDER holds Emotion6 (``labels.csv`` beside ``images``). Only pictures that the checkpoint's training kept
apart are explained. Each picture's figures are appended to a log as soon as they are there, and what a log
has already is not measured again: a run may be cut at any time, go on with more pictures or methods, and be
one of several at once with a log each (``--skip``). A log of another checkpoint, number of points or seed is
neither gone on with nor reported. ``--report`` measures nothing: it writes the section of
``RESULTS.md`` from the logs. Captum and pytorch-grad-cam are needed for their own methods only; ``--methods``
leaves them out.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from app.engine.warming import pieces_of
from app.explain.dream import QUICK, THOROUGH
from app.loading import load
from bench import machine
from bench.explanations.faithfulness import POINTS, areas, road
from bench.explanations.maps import DEFAULT_METHODS, METHODS, Explained, PeerMissing, timed_maps
from bench.explanations.report import report
from bench.explanations.soundness import soundness
from bench.explanations.speed import speed
from bench.explanations.subjects import held_out
from bench.explanations.twin import randomised, twin
from bench.report import progress, replace_section

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from app.checkpoint import Checkpoint
    from bench.explanations.subjects import Subject
    from training.inception import EmotionInception

CHECKPOINT = Path("models/emotion6.pt")
_CPU = torch.device("cpu")
_SETTINGS = {"dream": QUICK, "dream-thorough": THOROUGH}


class OtherLog(Exception):
    """A log that was measured in another way; the message says in which."""


def main(words: Sequence[str] | None = None) -> int:
    """Measure what is not measured yet, or report what is."""
    chosen = _arguments(words)
    if chosen.speed:
        section = (
            f"## What an explanation costs\n\n{machine.describe()}; `python -m bench.explain --speed`.\n\n"
        )
        section += speed(chosen.checkpoint, chosen.threads)
        replace_section("explanation-speed", section)
        print(section)
        return 0
    torch.set_num_threads(chosen.threads)
    checkpoint = load(chosen.checkpoint, _CPU)
    if chosen.report:
        records = list(read(chosen.report).values())
        check(records, measured_how(checkpoint, chosen))
        section = report(records, f"{checkpoint.card.name} {checkpoint.card.version}", chosen.points)
        replace_section("explanations", section)
        print(section)
        return 0
    for piece in pieces_of(checkpoint, 1):  # as the service does: TorchScript's first passes round otherwise
        piece()
    python = twin(checkpoint)
    strange = randomised(python, chosen.seed)
    known = read([chosen.log])
    check(known.values(), measured_how(checkpoint, chosen))
    subjects = held_out(chosen.data, checkpoint, count=chosen.pictures, skip=chosen.skip, seed=chosen.seed)
    for number, subject in enumerate(subjects, chosen.skip):
        missing = _missing(known.get(subject.name, {}), number, chosen)
        if not missing:
            continue
        asked = Explained(subject.pixels, subject.emotion, checkpoint, python, seed=number)
        record = measured_how(checkpoint, chosen) | _measured(
            subject, asked, chosen, missing=missing, strange=strange
        )
        with chosen.log.open("a", encoding="utf-8") as log:
            log.write(json.dumps(record) + "\n")
        progress(f"picture {number}: {subject.name}")
    return 0


def _missing(record: Mapping[str, Any], number: int, chosen: argparse.Namespace) -> dict[str, set[str]]:
    """What is still to be measured of a picture: ``areas``, ``road`` or ``soundness``, by method.

    The expensive ones are measured of the first pictures only.
    """
    wanted = {name: {"areas"} for name in chosen.methods}
    if number >= chosen.thorough_pictures:
        wanted.pop("dream-thorough", None)
    for name, figures in wanted.items():
        if number < chosen.road_pictures:
            figures.add("road")
        if name in _SETTINGS and number < chosen.soundness_pictures:
            figures.add("soundness")
    methods, sound = record.get("methods", {}), record.get("soundness", {})
    for name, figures in wanted.items():
        there = {"areas": "log_odds", "road": "road"}
        figures.difference_update(what for what in there if there[what] in methods.get(name, {}))
        figures.difference_update({"soundness"} if name in sound else ())
    return {name: figures for name, figures in wanted.items() if figures}


def _measured(
    subject: Subject,
    asked: Explained,
    chosen: argparse.Namespace,
    *,
    missing: Mapping[str, set[str]],
    strange: EmotionInception,
) -> dict[str, Any]:
    """The missing figures of one picture."""
    methods: dict[str, dict[str, float]] = {}
    sound: dict[str, dict[str, float]] = {}
    for name, (relevance, seconds) in timed_maps(asked, list(missing)).items():
        figures = methods[name] = {"seconds": seconds}
        about = asked.checkpoint, subject.pixels, subject.emotion, relevance
        if "areas" in missing[name]:
            figures |= asdict(areas(*about, chosen.points))
        if "road" in missing[name]:
            figures["road"] = road(*about)
        if "soundness" in missing[name]:
            sound[name] = soundness(subject, asked, _SETTINGS[name], strange, relevance).figures()
    return {"picture": subject.name, "emotion": subject.emotion, "methods": methods, "soundness": sound}


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m bench.explain", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--data", type=Path, help="folder of Emotion6")
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT)
    parser.add_argument("--pictures", type=int, default=100)
    parser.add_argument("--skip", type=int, default=0, help="pictures left out first, to explore on others")
    parser.add_argument("--seed", type=int, default=0, help="of the choice of pictures and of random maps")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=DEFAULT_METHODS, metavar="METHOD")
    parser.add_argument("--points", type=int, default=POINTS, help="at which each curve is looked at")
    for what, count in (("road", 30), ("soundness", 100), ("thorough", 30)):
        about = f"the first so many get {what}, which is slow"
        parser.add_argument(f"--{what}-pictures", type=int, default=count, help=about)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--log", type=Path, default=Path("runs/explanations.jsonl"))
    parser.add_argument("--speed", action="store_true", help="measure only what an explanation costs")
    parser.add_argument("--report", type=Path, nargs="+", metavar="LOG", help="measure nothing, report these")
    chosen = parser.parse_args(words)
    if not (chosen.report or chosen.speed) and chosen.data is None:
        parser.error("--data is needed to measure")
    chosen.log.parent.mkdir(parents=True, exist_ok=True)
    return chosen


def measured_how(checkpoint: Checkpoint, chosen: argparse.Namespace) -> dict[str, str | int]:
    """What figures have to have in common to stand in one table."""
    return {"checkpoint": checkpoint.sha256, "points": chosen.points, "seed": chosen.seed}


def check(records: Iterable[Mapping[str, Any]], wanted: Mapping[str, str | int]) -> None:
    """Raises OtherLog if any of the records was measured in another way."""
    for record in records:
        for what, value in wanted.items():
            if record.get(what) != value:
                found = record.get(what, "of an unknown one")
                raise OtherLog(
                    f"{record['picture']} was measured with {what} {found}, and not {value}; give that one, "
                    "or measure anew into another --log"
                )


def read(logs: Sequence[Path]) -> dict[str, dict[str, Any]]:
    """What was measured, by picture; what several lines say of one is put together."""
    known: dict[str, dict[str, Any]] = {}
    for line in (line for log in logs if log.exists() for line in log.read_text("utf-8").splitlines()):
        record = json.loads(line)
        old = known.setdefault(record["picture"], record)
        check([record], {what: old[what] for what in ("checkpoint", "points", "seed") if what in old})
        for name, figures in record["methods"].items():
            old["methods"][name] = old["methods"].get(name, {}) | figures
        old["soundness"] |= record["soundness"]
    return known


if __name__ == "__main__":
    try:
        sys.exit(main())
    except OtherLog as error:
        sys.exit(str(error))
    except PeerMissing as error:
        sys.exit(f"{error}\nor leave out its methods with --methods, and ROAD with --road-pictures 0")

"""Whether the explanation maps can be believed, measured beside other methods and beside chance.

    python -m bench.explain --data FOLDER

FOLDER holds Emotion6 (``labels.csv`` beside ``images``). Only pictures that the checkpoint's training kept
apart are explained. Each picture's figures are appended to a log as soon as they are there, and a log that
exists is gone on with, so a run may be cut at any time. Captum and pytorch-grad-cam are needed for their own
methods only; ``--methods`` leaves them out.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from app.checkpoint import Checkpoint, load
from app.explain.dream import QUICK, THOROUGH
from bench.explanations.faithfulness import areas, road
from bench.explanations.maps import DEFAULT_METHODS, METHODS, Explained, PeerMissing, timed_maps
from bench.explanations.report import report
from bench.explanations.soundness import soundness
from bench.explanations.subjects import held_out
from bench.explanations.twin import randomised, twin

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.explanations.subjects import Subject
    from training.inception import EmotionInception

CHECKPOINT = Path("models/emotion6.pt")
_CPU = torch.device("cpu")
_SETTINGS = {"dream": QUICK, "dream-thorough": THOROUGH}


def main(words: Sequence[str] | None = None) -> int:
    """Measure what is not measured yet, and print the report."""
    chosen = _arguments(words)
    torch.set_num_threads(chosen.threads)
    checkpoint = load(chosen.checkpoint, _CPU)
    scoring = _in_bfloat16(chosen.checkpoint) if chosen.bfloat16 else checkpoint
    python = twin(checkpoint)
    strange = randomised(python, chosen.seed)
    known = _read(chosen.log)
    subjects = held_out(chosen.data, checkpoint, count=chosen.pictures, skip=chosen.skip, seed=chosen.seed)
    records = []
    for number, subject in enumerate(subjects):
        if subject.name not in known:
            asked = Explained(subject.pixels, subject.emotion, checkpoint, python, seed=number)
            record = _measured(subject, asked, chosen, scoring=scoring, strange=strange)
            with chosen.log.open("a", encoding="utf-8") as log:
                log.write(json.dumps(record) + "\n")
            print(f"{number + 1} of {chosen.pictures}: {subject.name}", file=sys.stderr, flush=True)
            known[subject.name] = record
        records.append(known[subject.name])
    card = checkpoint.card
    print(report(records, f"## {card.name} {card.version}, seed {chosen.seed}"))
    return 0


def _measured(
    subject: Subject,
    asked: Explained,
    chosen: argparse.Namespace,
    *,
    scoring: Checkpoint,
    strange: EmotionInception,
) -> dict[str, Any]:
    """Every figure of one picture."""
    methods: dict[str, dict[str, float]] = {}
    for name, (relevance, seconds) in timed_maps(asked, chosen.methods).items():
        found = asdict(areas(scoring, subject.pixels, subject.emotion, relevance))
        if asked.seed < chosen.road_pictures:
            found["road"] = road(scoring, subject.pixels, subject.emotion, relevance)
        methods[name] = {**found, "seconds": seconds}
    sound = {
        name: soundness(subject, asked, settings, strange).figures()
        for name, settings in _SETTINGS.items()
        if name in chosen.methods and asked.seed < chosen.soundness_pictures
    }
    return {"picture": subject.name, "emotion": subject.emotion, "methods": methods, "soundness": sound}


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m bench.explain", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of Emotion6")
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT)
    parser.add_argument("--pictures", type=int, default=100)
    parser.add_argument("--skip", type=int, default=0, help="pictures left out first, to explore on others")
    parser.add_argument("--seed", type=int, default=0, help="of the choice of pictures and of random maps")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=DEFAULT_METHODS, metavar="METHOD")
    parser.add_argument("--road-pictures", type=int, default=30, help="ROAD is slow: only the first so many")
    parser.add_argument("--soundness-pictures", type=int, default=100, help="likewise")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--bfloat16", action="store_true", help="score the curves in half the time")
    parser.add_argument("--log", type=Path, default=Path("runs/explanations.jsonl"))
    chosen = parser.parse_args(words)
    chosen.log.parent.mkdir(parents=True, exist_ok=True)
    return chosen


def _in_bfloat16(path: Path) -> Checkpoint:
    copy = load(path, _CPU)
    return replace(copy, network=copy.network.to(torch.bfloat16))


def _read(log: Path) -> dict[str, dict[str, Any]]:
    if not log.exists():
        return {}
    lines = (json.loads(line) for line in log.read_text("utf-8").splitlines())
    return {record["picture"]: record for record in lines}


if __name__ == "__main__":
    try:
        sys.exit(main())
    except PeerMissing as error:
        sys.exit(f"{error}\nor leave the method out with --methods")

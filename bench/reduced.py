"""How much smaller than its file a JPEG may be decoded for the network, before its answers suffer.

    python -m bench.reduced data/emotion6        about a minute

libjpeg decodes at a half, a quarter or an eighth for less work. The question is how many pixels have to be
left for each of the network's input (`app.picture.GAP`). Rated pictures that the checkpoint did not learn
from are enlarged, with a camera's grain, until half of them leaves just so many. What it costs is the
difference between their answers and those to the same files decoded whole, where the filtered step does it
all. What it saves is time, for the photos of `bench.serving`.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from PIL import Image

from app.checkpoint import probabilities
from app.loading import load
from app.picture import GAP, decode
from bench.bare import CHECKPOINT
from bench.explanations.subjects import as_divided
from bench.machine import Watch
from bench.pictures import EACH, KINDS, with_grain, write_all
from bench.report import bullets, circumstances, progress, replace_section, table
from bench.spread import Spread
from training.evaluate import changes_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from app.card import Score
    from app.checkpoint import Checkpoint
    from app.picture import Pixels
    from training.affective_set import AffectiveSet
    from training.metrics import Floats
    from training.partition import Partition

GAPS = (2.0, GAP, 1.0)
ROUNDS = 5
BATCH = 16
FIGURES = {"kl": "KL divergence", "cosine": "cosine", "accuracy_when_clear": "accuracy, on clear pictures"}


class Found(NamedTuple):
    """What one gap costs and saves.

    Attributes:
        changes: of each figure of the card.
        moved: share of the answers that goes to other emotions, for each picture.
        seconds: that decoding takes, by kind of photo.
    """

    changes: Mapping[str, Score]
    moved: Floats
    seconds: Mapping[str, Spread]


def enlarged(path: Path, shorter: int, seed: int) -> bytes:
    """The picture as a JPEG whose shorter side has so many pixels."""
    picture = Image.open(path).convert("RGB")
    scale = shorter / min(picture.size)
    size = (max(shorter, round(picture.width * scale)), max(shorter, round(picture.height * scale)))
    return with_grain(picture.resize(size, Image.Resampling.LANCZOS), np.random.default_rng(seed))


def asked_for(gap: float, side: int) -> int:
    """The input's side by which `decode` leaves at least `gap` pixels for each of an input of `side`."""
    return math.ceil(gap * side / GAP)


def answers(checkpoint: Checkpoint, pictures: Sequence[Pixels]) -> Floats:
    """Probabilities ``[N, K]``."""
    batches = [pictures[first : first + BATCH] for first in range(0, len(pictures), BATCH)]
    return np.concatenate([probabilities(checkpoint, np.stack(batch)) for batch in batches])


def cost(
    checkpoint: Checkpoint, rated: AffectiveSet, partition: Partition, gap: float
) -> tuple[Mapping[str, Score], Floats]:
    """What changes when half of a held-out picture leaves `gap` pixels for each of the input's.

    Raises:
        RuntimeError: a picture was not decoded at a half.
    """
    side = checkpoint.card.input_size
    narrow = asked_for(gap, side)
    whole, half = [], []
    for index in partition.held_out:
        file = enlarged(rated.pictures[index], 2 * math.ceil(GAP * narrow), seed=int(index))
        reduced = decode(file, side=narrow)
        if reduced.rgb.width * 2 not in {reduced.width, reduced.width + 1}:
            raise RuntimeError(f"{rated.pictures[index]} was not decoded at a half")
        whole.append(decode(file).as_input(side))
        half.append(reduced.as_input(side))
    before, after = answers(checkpoint, whole), answers(checkpoint, half)
    seed = checkpoint.card.split.seed
    changes = changes_of(before, after, rated, partition.held_out, seed=seed)
    return changes, np.abs(before - after).sum(axis=1) / 2


def savings(folder: Path, side: int) -> dict[float, dict[str, Spread]]:
    """Seconds that decoding takes with each gap, by kind of photo. Gaps take turns; one round warms up."""
    files = {kind: [path.read_bytes() for path in paths] for kind, paths in write_all(folder).items()}
    kept: dict[float, dict[str, list[float]]] = {gap: {kind: [] for kind in KINDS} for gap in GAPS}
    for turn in range(ROUNDS + 1):
        for kind in KINDS:
            for number in range(EACH):
                for gap in GAPS:
                    began = time.perf_counter()
                    decode(files[kind][number], side=asked_for(gap, side)).as_input(side)
                    if turn:
                        kept[gap][kind].append(time.perf_counter() - began)
    return {
        gap: {kind: Spread.of_many(every) for kind, every in kinds.items()} for gap, kinds in kept.items()
    }


def section(found: Mapping[float, Found], pictures: int) -> str:
    """In Markdown."""
    head = (
        "pixels for each of the input's",
        *FIGURES.values(),
        "share that moves, mean",
        "95 % below",
        "at most",
    )
    head += tuple(f"decoding {kind}, ms" for kind in KINDS)
    rows = []
    for gap, (changes, moved, seconds) in found.items():
        scores = [changes[name] for name in FIGURES]
        figures = [f"{score.value:+.4f} ({score.low:+.4f} to {score.high:+.4f})" for score in scores]
        shares = (moved.mean(), np.quantile(moved, 0.95), moved.max())
        times = [f"{seconds[kind].scaled(1000):.1f}" for kind in KINDS]
        name = f"**{gap:g}**, as served" if gap == GAP else f"{gap:g}"
        rows.append((name, *figures, *(f"{share:.4f}" for share in shares), *times))
    about = (
        f"Changes beside decoding the same files whole, on {pictures} pictures of Emotion6 that "
        f"{CHECKPOINT.stem} did not learn from, enlarged until half of them leaves just so many pixels; "
        "brackets hold 95 % intervals, and of the times the 10th and the 90th percentile."
    )
    return f"{about}\n\n{table(head, rows)}"


def main() -> None:
    """Measure, and write the section."""
    parser = argparse.ArgumentParser("python -m bench.reduced", description=__doc__.split("\n", 1)[0])
    parser.add_argument("folder", type=Path, help="of Emotion6, with labels.csv and images")
    parser.add_argument("--pictures", type=Path, default=Path("build/bench/pictures"))
    options = parser.parse_args()
    checkpoint = load(CHECKPOINT, torch.device("cpu"))
    began, watch = time.monotonic(), Watch()
    saved = savings(options.pictures, checkpoint.card.input_size)
    divided = as_divided(options.folder, checkpoint)
    found = {}
    for gap in GAPS:
        progress(f"at least {gap:g} pixels for each of the input's")
        found[gap] = Found(*cost(checkpoint, *divided, gap), saved[gap])
    told = circumstances(
        {"torch": torch.__version__},
        minutes=(time.monotonic() - began) / 60,
        others=[watch.taken().others],
    )
    text = f"## JPEGs decoded small\n\n{bullets(told)}\n\n{section(found, len(found[GAP].moved))}"
    replace_section("reduced", text)
    print(text)


if __name__ == "__main__":
    main()

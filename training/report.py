"""What training found, on one page for a browser and one in Markdown, in the folder of the run.

The page shows rated pictures, so it goes nowhere that they may not go; that is written on it.
"""

from __future__ import annotations

import base64
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from app.card import Split
from app.offline.files import as_text
from app.picture import decode
from training import card as cards
from training import plots
from training.cross_validate import load
from training.division import check_split
from training.evaluate import EvaluationError, check_labels
from training.metrics import kl_divergence, reliability_by_emotion
from training.out_of_fold import cross_fitted, kept_outputs
from training.release import evaluation

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path
    from typing import Any

    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from app.card import Card, ReliabilityBin
    from app.checkpoint import Checkpoint
    from training.affective_set import AffectiveSet
    from training.metrics import Floats
    from training.partition import Partition
    from training.run import Run

EXAMPLES = 12
"""Pictures in the sample, and in the worst cases."""
_CHOSEN = "The epoch with the lowest validation loss is the result."
_LAST = "The last epoch is the result, as no pictures were kept to choose by."
_HEAD = "The last layer alone was trained, which has no epochs."
_SIDE = 200  # of a picture on the page; enough to recognise it


@dataclass(frozen=True, eq=False)
class Findings:
    """What a report is made of.

    Attributes:
        card: of the checkpoint.
        sha256: of its file.
        rated: the pictures that were scored, all left out of what scored them.
        predicted: ``[R, N, K]`` of those pictures, by the networks of R repeats.
        frequencies: pictures that each emotion dominates, in the whole set.
        logs: lines of each run's ``log.csv``, by the run's name.
    """

    card: Card
    sha256: str
    rated: AffectiveSet
    predicted: Floats
    frequencies: dict[str, int]
    logs: dict[str, list[dict[str, str]]]


@dataclass(frozen=True, eq=False)
class Drawing:
    """A figure with its words.

    Attributes:
        name: of its file.
        title: above it.
        alt: for those who cannot see it.
        caption: what to look for.
        png: the file.
    """

    name: str
    title: str
    alt: str
    caption: str
    png: bytes

    @property
    def base64(self) -> str:
        """The file, to be written into a page."""
        return base64.b64encode(self.png).decode()


def of_run(checkpoint: Checkpoint, rated: AffectiveSet, partition: Partition, run: Run) -> Findings:
    """Findings on the test pictures of the checkpoint's split.

    Raises:
        EvaluationError: the pictures are not those of the split, or it kept none for the test; or the
            checkpoint was made of another run.
        RunError: the folder holds no run.
    """
    check_labels(checkpoint.card.labels, rated)
    check_split(checkpoint.card.split, rated, partition)
    if not _made_of(checkpoint.card, run.complete_record()):
        raise EvaluationError(f"this checkpoint's card does not say that it was made of the run {run.folder}")
    logs = {"": run.epochs()}
    predicted = evaluation(checkpoint, rated, partition).predicted[None]
    return Findings(
        checkpoint.card,
        checkpoint.sha256,
        rated.subset(partition.test),
        predicted,
        rated.frequencies(),
        logs,
    )


def _made_of(card: Card, record: Mapping[str, Any]) -> bool:
    """Whether a run is the last that a checkpoint was made of, with nothing but an export after it.

    A card also holds the commands of the runs that its own began from; and those of a study are all one.
    """
    until = "\n".join([*record["earlier_commands"], record["command"], ""])
    after = card.command.removeprefix(until)
    return (
        card.command.startswith(until)
        and "\npython -m training " not in after
        and card.split == Split(**record["split"])
        and card.target == record["settings"]["target"]
    )


def of_cross_validation(
    checkpoint: Checkpoint, rated: AffectiveSet, folder: Path, runs: list[Run]
) -> Findings:
    """Findings on all pictures, each judged by the networks that have not learned from it.

    Raises:
        EvaluationError: the cross-validation is of other pictures, or not the one on the checkpoint's card.
        RunError: it is not finished.
    """
    check_labels(checkpoint.card.labels, rated)
    if checkpoint.card.cross_validation is None:
        raise EvaluationError("the scores on this checkpoint's card are not those of a cross-validation")
    if load(folder).scores != checkpoint.card.scores:
        raise EvaluationError(f"{folder} is another cross-validation than the one on this checkpoint's card")
    predicted = cross_fitted(rated, kept_outputs(rated, folder))
    logs = {run.folder.relative_to(folder).as_posix(): run.epochs() for run in runs}
    return Findings(checkpoint.card, checkpoint.sha256, rated, predicted, rated.frequencies(), logs)


def write(found: Findings, folder: Path) -> Path:
    """Write ``report.html``, and ``report.md`` with its drawings beside it; returns the page's path."""
    drawings = [*draw(found)]
    folder.mkdir(parents=True, exist_ok=True)
    for drawing in drawings:
        (folder / f"{drawing.name}.png").write_bytes(drawing.png)
    (folder / "report.md").write_text(_markdown(found, drawings), "utf-8")
    page = folder / "report.html"
    page.write_text(_html(found, drawings), "utf-8")
    return page


def draw(found: Findings) -> Iterator[Drawing]:
    """Every drawing of the report."""
    plotted, labels = found.card.plots, found.rated.labels
    count = len(found.rated)
    chance = math.log(len(labels))
    yield _drawing(
        "learning-curves", "Learning curves", plots.learning_curves(found.logs, chance),
        "Losses on training and validation pictures after each epoch.",
        f"{_which_epoch(found)} The training loss is that of augmented pictures with dropout, so it "
        "may lie above.",
    )  # fmt: skip
    yield _drawing(
        "frequencies", "Class frequencies", plots.frequencies(found.frequencies),
        f"Bars: {', '.join(f'{label} {number}' for label, number in found.frequencies.items())} pictures.",
        f"{sum(found.frequencies.values())} pictures in all. Rare emotions are learned, and scored, worse.",
    )  # fmt: skip
    if plotted is not None:
        yield _drawing(
            "confusion", "Confusion", plots.confusion(plotted.confusion),
            "Matrix of rated against predicted dominant emotions; the numbers are in the checkpoint's card.",
            "A dark diagonal is right. Colours are shares of a row, numbers are pictures.",
        )  # fmt: skip
        yield _drawing(
            "reliability", "Reliability", plots.reliability(plotted.reliability),
            "What raters said, against what was predicted for the emotion predicted most.",
            "On the dotted diagonal, predictions mean what they say; below it they are too sure. Larger dots "
            "are more pictures.",
        )  # fmt: skip
    yield _drawing(
        "reliability-by-emotion", "Reliability of every emotion",
        plots.reliability_by_emotion(_reliability_by_emotion(found)),
        "What raters said, against what was predicted, for each emotion alone.",
        "Shares of every picture, whether the emotion is predicted most or not.",
    )  # fmt: skip
    yield _drawing(
        "samples", "A sample", _examples(found, sample(found)),
        "Pictures with the predicted distribution beside the raters'.",
        f"Drawn by lot from the {count} scored pictures, as many of each dominant emotion as there can be. "
        f"Training kept them apart.{_whose_bars(found)}",
    )  # fmt: skip
    yield _drawing(
        "worst", "Worst cases", _examples(found, worst(found)),
        "The pictures whose predictions are furthest from the raters.",
        "Largest KL(rated ‖ predicted), in nats, worst first: what they share is still to be learned."
        f"{_whose_bars(found)}",
    )  # fmt: skip


def _which_epoch(found: Findings) -> str:
    """Where the weights come from. The last layer's own row has a loss even where nothing chose an epoch."""
    losses = [
        float(row["validation_loss"]) for log in found.logs.values() for row in log if row["phase"] == "all"
    ]
    if not losses:
        return _HEAD
    return _CHOSEN if any(map(math.isfinite, losses)) else _LAST


def _reliability_by_emotion(found: Findings) -> dict[str, tuple[ReliabilityBin, ...]]:
    """Of all repeats together: the mean of several networks is more cautious than each, and not served."""
    rated = np.tile(found.rated.agreement, (len(found.predicted), 1))
    return reliability_by_emotion(np.concatenate(found.predicted), rated, found.rated.labels)


def _distances(found: Findings) -> Floats:
    """KL of every picture ``[N]``, the mean of the repeats'."""
    each = [kl_divergence(predicted, found.rated.agreement) for predicted in found.predicted]
    return np.asarray(np.mean(each, axis=0))


def _whose_bars(found: Findings) -> str:
    """What a caption says of several networks, of which a picture has but one row of bars."""
    if (repeats := len(found.predicted)) == 1:
        return ""
    return f" The bars are the mean of {repeats} networks, one of each repeat; KL is the mean of theirs."


def sample(found: Findings, count: int = EXAMPLES) -> NDArray[np.int64]:
    """Pictures by lot, dealt out emotion by emotion so that rare ones are seen too."""
    shuffled = np.random.default_rng(found.card.seed).permutation(len(found.rated))
    piles = [shuffled[found.rated.dominant[shuffled] == label] for label in range(len(found.rated.labels))]
    rounds = [[pile[turn] for pile in piles if turn < len(pile)] for turn in range(max(map(len, piles)))]
    return np.array([picture for each in rounds for picture in each][:count])


def worst(found: Findings, count: int = EXAMPLES) -> NDArray[np.int64]:
    """The pictures whose predictions are furthest from what the raters said, the furthest first."""
    return np.argsort(-_distances(found), kind="stable")[:count]


def _examples(found: Findings, places: NDArray[np.int64]) -> Figure:
    distance, predicted = _distances(found), found.predicted.mean(axis=0)
    shown = []
    for place in places:
        path = found.rated.pictures[place]
        image = decode(path.read_bytes(), side=_SIDE).rgb
        image.thumbnail((_SIDE, _SIDE))
        title = f"{as_text(f'{path.parent.name}/{path.name}')}\nKL {distance[place]:.2f}"
        shown.append(plots.Example(image, title, predicted[place], found.rated.agreement[place]))
    return plots.examples(shown, found.rated.labels)


def _drawing(name: str, title: str, figure: Figure, alt: str, caption: str) -> Drawing:
    return Drawing(name, title, alt, caption, plots.png(figure))


def _html(found: Findings, drawings: list[Drawing]) -> str:
    environment = Environment(
        loader=PackageLoader("training"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    heads, rows = cards.score_table(found.card)
    return environment.get_template("report.html").render(
        card=found.card,
        how=cards.how_scored(found.card),
        source=found.card.data[-1].name,
        terms=found.card.data[-1].terms,
        heads=heads,
        rows=rows,
        drawings=drawings,
    )


def _markdown(found: Findings, drawings: list[Drawing]) -> str:
    sections = [f"## {each.title}\n\n![{each.alt}]({each.name}.png)\n\n{each.caption}\n" for each in drawings]
    return "\n".join([cards.to_markdown(found.card, found.sha256), *sections])

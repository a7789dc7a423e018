from __future__ import annotations

import base64
import io
import json
import os
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from tests.training.colours import LABELS, colour_set
from training import plots, report
from training.__main__ import main
from training.evaluate import EvaluationError
from training.metrics import kl_divergence, reliability_by_emotion
from training.partition import split
from training.report import (
    Findings,
    _made_of,
    _which_epoch,
    draw,
    of_cross_validation,
    of_run,
    sample,
    worst,
)
from training.run import Run, RunError
from training.sources.options import NOT_STATED

if TYPE_CHECKING:
    from app.checkpoint import Checkpoint
    from training.affective_set import AffectiveSet

DRAWINGS = (
    "learning-curves", "frequencies", "confusion", "reliability", "reliability-by-emotion", "samples", "worst"
)  # fmt: skip


class Page(HTMLParser):
    """What a page shows and what it fetches."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.images: list[dict[str, str | None]] = []
        self.fetched: list[str | None] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag == "img":
            self.images.append(found)
        self.fetched += [found[key] for key in ("src", "href") if key in found]


@pytest.fixture(scope="module")
def folder(
    tmp_path_factory: pytest.TempPathFactory, colour_folder: Path, released: Path, fitted: Path
) -> Path:
    """A report that was made on the command line."""
    out = tmp_path_factory.mktemp("reports") / "colours"
    words = ["report", "image_folder", str(colour_folder), str(released), "--run", str(fitted)]
    assert main([*words, "--out", str(out), "--device", "cpu"]) == 0
    return out


def test_the_page_needs_nothing_but_itself(folder: Path) -> None:
    page = Page((folder / "report.html").read_text("utf-8"))
    assert len(page.images) == len(DRAWINGS)
    for source, image in zip(page.fetched, page.images, strict=True):
        assert source is not None
        assert image["alt"]
        kind, _, data = source.partition(",")
        assert kind == "data:image/png;base64"
        with Image.open(io.BytesIO(base64.b64decode(data))) as drawing:
            drawing.verify()


def test_both_pages_have_the_figures_of_the_card(folder: Path, colours: Checkpoint) -> None:
    html, markdown = ((folder / f"report.{kind}").read_text("utf-8") for kind in ("html", "md"))
    for name, score in colours.card.scores.items():
        broken = name.replace("_", "_<wbr>")
        assert f'<th scope="row">{broken}</th><td>{score.value:.3f}</td>' in html
        assert f"| {name} | **{score.value:.3f}** " in markdown
    assert f"Their terms: {colours.card.data[-1].terms}." in html
    assert colours.card.data[-1].terms != NOT_STATED
    linked = re.findall(r"\]\((.+)\.png\)", markdown)
    assert tuple(linked) == DRAWINGS
    assert all((folder / f"{name}.png").is_file() for name in linked)


@pytest.fixture
def found(colour_folder: Path, colours: Checkpoint) -> Findings:
    """Of thirty pictures, predictions by lot."""
    rated = colour_set(colour_folder)
    predicted = np.random.default_rng(0).dirichlet(np.ones(3), (1, len(rated)))
    return Findings(colours.card, "0" * 64, rated, predicted, rated.frequencies(), {})


def test_a_sample_deals_out_every_emotion(found: Findings) -> None:
    chosen = sample(found, 7)
    assert len(set(chosen.tolist())) == 7
    assert sorted(np.bincount(found.rated.dominant[chosen])) == [2, 2, 3]
    few = replace(
        found, rated=found.rated.subset(np.array([0, 1, 2, 3, 15])), predicted=found.predicted[:, :5]
    )
    assert sorted(sample(few).tolist()) == [0, 1, 2, 3, 4]
    assert 4 in sample(few, 2), "the only one of its emotion"


def test_the_worst_cases_are_the_furthest_from_the_raters(found: Findings) -> None:
    distance = kl_divergence(found.predicted[0], found.rated.agreement)
    chosen = worst(found, 4)
    assert distance[chosen].tolist() == sorted(distance, reverse=True)[:4]


def test_several_networks_are_not_shown_as_if_one_had_their_mean(
    found: Findings, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = np.random.default_rng(1).dirichlet(np.ones(3), (1, len(found.rated)))
    two = replace(found, predicted=np.concatenate([found.predicted, other]))
    rated = found.rated.agreement
    each = [kl_divergence(predicted, rated) for predicted in two.predicted]
    assert worst(two, 30).tolist() == np.argsort(-(each[0] + each[1]), kind="stable").tolist()
    drawn: dict[str, Any] = {}
    for name in ("reliability_by_emotion", "examples"):
        real = getattr(plots, name)
        monkeypatch.setattr(
            plots, name, lambda *given, name=name, real=real: drawn.update({name: given}) or real(*given)
        )
    captions = {drawing.name: drawing.caption for drawing in draw(two)}
    pooled = reliability_by_emotion(np.concatenate(two.predicted), np.tile(rated, (2, 1)), LABELS)
    assert drawn["reliability_by_emotion"] == (pooled,)
    first, place = drawn["examples"][0][0], worst(two, 1)[0]
    assert first.title.endswith(f"KL {(each[0][place] + each[1][place]) / 2:.2f}")
    assert first.predicted == pytest.approx(two.predicted[:, place].mean(axis=0))
    for name in ("samples", "worst"):
        assert "The bars are the mean of 2 networks" in captions[name]
    assert not any("networks" in drawing.caption for drawing in draw(found))


def test_names_that_are_no_utf_8_are_drawn(found: Findings, tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png"))
    shutil.copy(found.rated.pictures[0], path)
    pictures = list(found.rated.pictures)
    pictures[worst(found, 1)[0]] = path
    drawings = [*draw(replace(found, rated=replace(found.rated, pictures=tuple(pictures))))]
    assert drawings[-1].name == "worst"


def test_what_was_not_scored_so_is_not_reported_so(
    tmp_path: Path, colours: Checkpoint, rated: AffectiveSet, fitted: Path
) -> None:
    with pytest.raises(EvaluationError, match="not those of a cross-validation"):
        of_cross_validation(colours, rated, tmp_path, [])
    with pytest.raises(EvaluationError, match="not those that training kept apart"):
        of_run(colours, rated, split(rated, seed=2), Run(fitted))
    with pytest.raises(RunError, match="holds no run"):
        of_run(colours, rated, split(rated, seed=1), Run(tmp_path))


def test_another_run_than_the_checkpoint_s_is_refused(
    colours: Checkpoint, colour_folder: Path, fitted: Path, tmp_path: Path
) -> None:
    other = Run(shutil.copytree(fitted, tmp_path / "other"))
    record = other.record()
    record["command"] += " --seed 5"
    (other.folder / "run.json").write_text(json.dumps(record), "utf-8")
    rated = colour_set(colour_folder)
    with pytest.raises(EvaluationError, match="made of the run"):
        of_run(colours, rated, split(rated, seed=1), other)
    assert report.EXAMPLES == 12
    assert rated.labels == LABELS


def test_a_run_that_a_checkpoint_began_from_is_not_its_own(colours: Checkpoint, fitted: Path) -> None:
    record = Run(fitted).record()
    own, export = colours.card.command.splitlines()
    assert _made_of(colours.card, record)
    child = f"python -m training fit fi there --citation 'a\nb' --weights {fitted}/best.safetensors"
    taught = colours.card.model_copy(update={"command": f"{own}\n{export}\n{child}\n{export}"})
    assert not _made_of(taught, record), "its command is on the card, but another run came after it"
    later = record | {"earlier_commands": [own, export], "command": child}
    assert _made_of(taught, later), "a command may have line breaks"
    assert not _made_of(taught, later | {"settings": record["settings"] | {"target": "class"}})
    assert not _made_of(taught, later | {"split": record["split"] | {"seed": 2}})


def test_a_report_says_which_epoch_is_the_result(found: Findings) -> None:
    head = {"phase": "head", "validation_loss": "0.9"}
    for losses, said in (
        ([], "The last layer alone was trained"),
        (["nan", "nan"], "The last epoch is the result"),
        (["0.8", "0.7"], "The epoch with the lowest validation loss"),
    ):
        log = [head, *({"phase": "all", "validation_loss": loss} for loss in losses)]
        assert _which_epoch(replace(found, logs={"fold-1": log})).startswith(said)


@pytest.fixture
def rated(colour_folder: Path) -> AffectiveSet:
    return colour_set(colour_folder)

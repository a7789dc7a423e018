from __future__ import annotations

import json
from typing import TYPE_CHECKING

from app.card import CrossValidation
from app.checkpoint import sha256_of
from app.cli.card import how_scored
from tests.tiny import LABELS, tiny_card

if TYPE_CHECKING:
    from pathlib import Path

    import httpx

    from tests.cli.conftest import Deepemotion


def test_for_programs_it_is_what_the_service_says(deepemotion: Deepemotion, client: httpx.Client) -> None:
    said = client.get("/v1/model").json()
    del said["devices"]
    assert json.loads(deepemotion("card", "--json").stdout) == said


def test_for_people_it_tells_all_that_matters(deepemotion: Deepemotion, checkpoint_path: Path) -> None:
    told = deepemotion("card").stdout
    card = tiny_card()
    for words in (
        "tiny@0.0.1, 2026-01-01",
        sha256_of(checkpoint_path),
        ", ".join(LABELS),
        "75 x 75 pixels, stretched",
        "temperature 1.500",
        "Terms: none",
        card.command,
        card.limits,
        "0.500 (0.400 to 0.600)",
        "chance",
        "0.333",
    ):
        assert words in told
    assert "never: it cannot tell what it does not know" in told


def test_when_it_abstains(deepemotion: Deepemotion, judging_path: Path) -> None:
    told = deepemotion("card", "--checkpoint", judging_path).stdout
    assert "anger -0.5, joy 1, sadness -1 (made up, -1 to 1)" in told
    assert "above an entropy of 1.09 nats or a novelty of 5; each was set to flag 2.0% of held-out" in told


def test_how_it_was_scored() -> None:
    card = tiny_card()
    folds = CrossValidation(folds=5, repeats=2, pictures=1500, seed=0, spread={}, differs=("epochs",))
    assert how_scored(card).startswith("on 0 pictures for test")
    told = how_scored(card.model_copy(update={"cross_validation": folds}))
    assert "of 1,500 pictures, but 10 like it" in told
    assert "otherwise in epochs" in told

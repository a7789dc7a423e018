"""The page at ``/card``: what the checkpoint says of itself, for people."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np

from tests.tiny import LABELS, tiny_card
from training.metrics import measure

if TYPE_CHECKING:
    from tests.web.browser import Browser

PLOTS = {
    "confusion": {"labels": list(LABELS), "counts": [[8, 1, 1], [2, 20, 0], [3, 3, 4]]},
    "reliability": [
        {"low": 0.2, "high": 0.4, "confidence": 0.31, "rated": 0.27, "count": 25},
        {"low": 0.4, "high": 0.6, "confidence": 0.52, "rated": 0.55, "count": 16},
        {"low": 0.6, "high": 0.8, "confidence": 0.0, "rated": 0.0, "count": 0},
    ],
}


def test_the_card_is_linked_and_told(browser: Browser) -> None:
    browser.one("nav a[href=card]").click()
    browser.wait_for("#card")
    card, text = tiny_card(), browser.one("main").text
    for fact in (card.description, card.limits, card.command, card.start_weights, *card.labels):
        assert fact in text
    assert "0.500 (0.400 to 0.600)" in text
    assert "0.333" in text  # chance
    browser.one(".brand").click()
    browser.wait_for("#intake")


def test_the_card_is_saved_as_it_was_told(browser: Browser) -> None:
    browser.open("card")
    browser.wait_for("#card")
    card = tiny_card()
    path = browser.downloads / f"{card.name}-{card.version}.json"
    path.unlink(missing_ok=True)
    browser.one("#save-json").click()
    browser.wait(path.exists)
    assert json.loads(path.read_text("utf-8"))["card"]["description"] == card.description


def test_an_interval_lies_where_its_figures_say(browser: Browser) -> None:
    browser.open("card")
    browser.wait_for("#plots svg")
    axis, interval = (
        browser.script(
            "const b = arguments[0].getBoundingClientRect(); return [b.left, b.right]", browser.one(part)
        )
        for part in ("#plots line.axis", "#plots line.interval")
    )
    shares = [(x - axis[0]) / (axis[1] - axis[0]) for x in interval]
    assert abs(shares[0] - 0.4) < 0.02
    assert abs(shares[1] - 0.6) < 0.02
    assert len(browser.all("#plots svg .mark")) == 2  # in the key, and chance on the line


def test_plots_that_a_card_may_bring(browser: Browser) -> None:
    browser.open("card")
    browser.wait_for("#plots svg")
    assert not browser.seen("#reliability, #confusion")
    # The page's own drawing, given what a card with plots would hold.
    browser.driver.execute_async_script(
        "const [plots, done] = arguments;"
        "import('/web/card.js').then((card) => { card.showPlots(plots); done(); });",
        PLOTS,
    )
    assert len(browser.all("#confusion-plot svg .cell")) == 9
    assert len(browser.all("#reliability-plot svg .point")) == 2  # an empty bin has no place
    label = browser.one("#confusion-plot svg").get_attribute("aria-label")
    assert "rated joy: 2 anger, 20 joy, 0 sadness" in str(label)


def from_the_card(browser: Browser, expression: str, *arguments: object) -> object:
    """What an expression about the page's own module gives, where it is called ``card``."""
    browser.open("card")
    browser.wait_for("#plots svg")
    return browser.driver.execute_async_script(
        "const done = arguments[arguments.length - 1], given = arguments;"
        f"import('/web/card.js').then((card) => done({expression}));",
        *arguments,
    )


def test_every_figure_that_training_measures_is_explained(browser: Browser) -> None:
    shares = np.eye(3)[np.arange(120) % 3] * 0.7 + 0.1
    known = from_the_card(browser, "Object.keys(card.MEANING)")
    assert set(measure(shares, shares)) == set(known)  # type: ignore[call-overload]


def test_how_it_was_scored(browser: Browser) -> None:
    split = {"train": 1200, "validation": 0, "test": 0}
    changed = {"value": -0.0123, "low": -0.02, "high": 0.001}
    folds = {"folds": 5, "repeats": 2, "pictures": 1500, "differs": ["epochs"]}
    told = from_the_card(
        browser,
        "[card.tested({split: given[0]}), card.tested({split: given[0], cross_validation: given[1]}), "
        "card.tested({split: given[0], stand_in: given[2]})]",
        {**split, "test": 300, "min_agreement": 0.5, "top_classes": 3},
        folds,
        {"release": "mine@4", "train": 900, "test": 301, "changes": {"kl": changed}},
    )
    assert isinstance(told, list)
    assert "Scored on 300 pictures" in told[0]
    assert "below 0.5 and those that another emotion than the 3 most common dominates had been" in told[0]
    assert "learned from 1,200 of the 1,500 pictures, but on 10 others" in told[1]
    assert "other settings in: epochs" in told[1]
    assert "but on mine@4, which learned from 900 of it, and was scored on the 301 for the test" in told[2]
    assert "differs from that one's by \u22120.012 (\u22120.020 to +0.001). Of all pictures" in told[2]


def test_a_card_that_cannot_be_had(browser: Browser) -> None:
    browser.command("Network.enable")
    browser.command("Network.setBlockedURLs", urls=["*/v1/model"])
    try:
        browser.open("card")
        assert "cannot be reached" in browser.wait_for("#refusal").text
        assert not browser.seen("#card, #loading")
    finally:
        browser.command("Network.setBlockedURLs", urls=[])

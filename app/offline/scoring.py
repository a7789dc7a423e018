"""Scoring a long list of pictures: predicted in batches, kept in a journal, written as a table at the end."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.offline.journal import Heading, open_journal
from app.offline.tables import write_errors, write_scores

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from app.engine import Model
    from app.offline.listing import Listing
    from app.offline.predicting import Predictor


class OutputExists(Exception):
    """There is a file where the table is to be written; the message says what to do."""


@dataclass(frozen=True)
class Outputs:
    """The files of one scoring.

    Attributes:
        scores: the table.
    """

    scores: Path

    @property
    def errors(self) -> Path:
        """The table of the pictures without an answer; only there if there are any."""
        return self.scores.with_name(f"{self.scores.name}.errors.csv")

    @property
    def journal(self) -> Path:
        """What has been found so far; gone when the tables are there."""
        return self.scores.with_name(f"{self.scores.name}.partial")


@dataclass(frozen=True)
class Tally:
    """How far a scoring is.

    Attributes:
        pictures: in the list.
        done: with or without an answer.
        refused: without one.
        resumed: done by an earlier run.
    """

    pictures: int
    done: int
    refused: int
    resumed: int


def score(
    model: Model,
    predictor: Predictor,
    listing: Listing,
    outputs: Outputs,
    *,
    force: bool = False,
    restart: bool = False,
    tell: Callable[[Tally], None] = lambda _: None,
) -> Tally:
    """Predict every picture of the list and write the table.

    It may be ended at any time, by any means: the same call goes on after the last whole batch, and the
    tables are the same as without the interruption.

    Args:
        model: the predictor's.
        predictor: predicts.
        listing: the pictures; the table has their order.
        outputs: where to write.
        force: replace tables that are there.
        restart: throw away what an earlier run has found.
        tell: called at the beginning and after each batch.

    Raises:
        OutputExists: and `force` is not given.
        JournalError: there is unfinished work of another list, checkpoint, precision or largest picture.
        CheckpointError: the network fails even on a black picture.
        OSError: an output cannot be written.
    """
    heading = Heading(model.sha256, listing.digest, len(listing.paths), model.precision, predictor.max_pixels)
    begun_before = outputs.journal.exists()
    if not (force or begun_before):
        _refuse_to_replace(outputs)
    with open_journal(outputs.journal, heading, restart=restart) as journal:
        resumed = journal.done
        if begun_before and not force and resumed < heading.count:
            _refuse_to_replace(outputs)  # else that run had already begun to write them

        def tally() -> Tally:
            return Tally(heading.count, journal.done, journal.refused, resumed)

        tell(tally())
        if resumed < heading.count:
            remaining = itertools.islice(listing.paths, resumed, None)
            for outcomes in predictor.batches(remaining):
                journal.add(outcomes)
                tell(tally())
        about = {
            "model": model.card.release,
            "model_sha256": model.sha256,
            "precision": model.precision,
        }
        if journal.refused:
            write_errors(outputs.errors, journal.entries())
        else:
            outputs.errors.unlink(missing_ok=True)
        write_scores(outputs.scores, model.card, journal.entries(), about)
        journal.remove()
        return tally()


def _refuse_to_replace(outputs: Outputs) -> None:
    for path in (outputs.scores, outputs.errors):
        if path.exists():
            raise OutputExists(f"{path} exists already; give --force to replace it, or write elsewhere")

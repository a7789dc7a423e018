"""CAP-D, the Categorized Affective Pictures Database, and any other table of agreement levels.

For 526 pictures it says which share of the raters chose each emotion. Neither pictures nor table may be
passed on, so the names, the order and the number of the emotions come from the file that its authors
gave you.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from training.sources.agreement_table import read_agreement_table
from training.sources.options import NOT_STATED

if TYPE_CHECKING:
    from pathlib import Path

    from training.affective_set import AffectiveSet
    from training.sources.options import SourceOptions

NAME = "CAP-D"
CITATION = "Moyal, Henik, Anholt: Categorized Affective Pictures Database (CAP-D), Journal of Cognition, 2018"


def read(path: Path, options: SourceOptions) -> AffectiveSet:
    """Read a table of agreement levels; pictures are beside it or in ``images`` beside it.

    Args:
        path: ``.xlsx``, or text separated by commas, semicolons or tabs.
        options: which columns are what, the unit, and for a table of your own its name, terms and citation.

    Raises:
        DataError: what is wrong with the table, row by row.
    """
    # Somebody's own table must not be credited to the authors of CAP-D.
    citation = CITATION if options.name is None and options.citation == NOT_STATED else options.citation
    return read_agreement_table(
        path, options, name=options.name or NAME, terms=options.terms, citation=citation
    )

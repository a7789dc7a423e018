"""CAP-D, the Categorized Affective Pictures Database, and any other table of agreement levels.

CAP-D (Moyal, Henik, Anholt, Journal of Cognition, 2018) says for 526 pictures which share of the raters chose
each emotion. Neither its pictures nor its table may be passed on, so the names, the order and the number of
the emotions come from the file that its authors gave you.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from training.sources.agreement_table import read_agreement_table

if TYPE_CHECKING:
    from pathlib import Path

    from training.affective_set import AffectiveSet
    from training.sources.options import SourceOptions


def read(path: Path, options: SourceOptions) -> AffectiveSet:
    """Read a table of agreement levels; pictures are beside it or in ``images`` beside it.

    The set is named for its file, unless the options name it: somebody's own table is not CAP-D.

    Args:
        path: ``.xlsx``, or text separated by commas, semicolons or tabs.
        options: which columns are what, the unit, and the set's name, terms and citation.

    Raises:
        DataError: what is wrong with the table, row by row.
    """
    return read_agreement_table(
        path, options, name=options.name or path.stem, terms=options.terms, citation=options.citation
    )

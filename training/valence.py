"""How pleasant each emotion is, told from how pleasant pictures are that evoke it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from training.affective_set import AffectiveSet


def valence_by_emotion(rated: AffectiveSet, indices: NDArray[np.int64]) -> dict[str, float] | None:
    """The valence that goes with each emotion; None where nobody rated it.

    Least squares of the pictures' valence on their distributions: since shares sum to 1, a picture's valence
    is told as the mean of the emotions' valences, weighted by their shares.

    Args:
        rated: the set.
        indices: pictures to learn from, more than there are emotions.
    """
    if rated.valence is None:
        return None
    found, *_ = np.linalg.lstsq(rated.agreement[indices], rated.valence[indices])
    return dict(zip(rated.labels, found.tolist(), strict=True))

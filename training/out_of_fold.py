"""What a cross-validation's networks say of the pictures that they have not learned from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from training.calibrate import fit_temperature
from training.evaluate import EvaluationError, earlier_names_of, names_of, probabilities
from training.run import RunError
from training.written import save_arrays

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from training.affective_set import AffectiveSet
    from training.metrics import Floats


@dataclass(frozen=True, eq=False)
class OutOfFold:
    """What networks say of N pictures that they have not learned from, in R repeats.

    Attributes:
        logits: ``[R, N, K]``.
        novelty: ``[R, N]``.
        fold: ``[R, N]``, the fold that each picture was in.
    """

    logits: Floats
    novelty: Floats
    fold: NDArray[np.int64]


def keep(rated: AffectiveSet, found: OutOfFold, folder: Path) -> None:
    """Write down what `kept_outputs` reads."""
    save_arrays(
        folder / "out_of_fold.npz",
        logits=found.logits,
        novelty=found.novelty,
        fold=found.fold,
        agreement=rated.agreement,
        labels=np.array(rated.labels),
        pictures=np.array(names_of(rated)),
    )


def kept_outputs(rated: AffectiveSet, folder: Path) -> OutOfFold:
    """What a cross-validation has kept of these pictures.

    Raises:
        RunError: there is none.
        EvaluationError: it is of other pictures.
    """
    path = folder / "out_of_fold.npz"
    if not path.is_file():
        raise RunError(f"{folder} holds no finished cross-validation")
    with np.load(path, allow_pickle=False) as kept:
        known = kept["pictures"].tolist() in (names_of(rated), earlier_names_of(rated))
        if not known or tuple(kept["labels"]) != rated.labels:
            raise EvaluationError(f"{folder} is a cross-validation of other pictures")
        if not np.allclose(kept["agreement"], rated.agreement):
            raise EvaluationError(f"{folder} is a cross-validation of other ratings of these pictures")
        return OutOfFold(kept["logits"], kept["novelty"], kept["fold"])


def cross_fitted(rated: AffectiveSet, found: OutOfFold) -> Floats:
    """Calibrated distributions ``[R, N, K]``; a fold's temperature is fitted on the other folds alone."""
    predicted = np.empty_like(found.logits)
    for logits, fold, calibrated in zip(found.logits, found.fold, predicted, strict=True):
        for each in np.unique(fold):
            inside = fold == each
            temperature = fit_temperature(logits[~inside], rated.agreement[~inside])
            calibrated[inside] = probabilities(logits[inside], temperature)
    return predicted

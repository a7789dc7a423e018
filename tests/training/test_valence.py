from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from training.affective_set import AffectiveSet, DataError
from training.valence import valence_by_emotion

HOW_PLEASANT = np.array([1.5, 5.0, 8.5])


def rated(count: int = 40, *, noise: float = 0.0) -> AffectiveSet:
    """Pictures that are as pleasant as the emotions that they evoke, give or take some noise."""
    rng = np.random.default_rng(0)
    agreement = rng.dirichlet(np.ones(3), count)
    return AffectiveSet(
        name="made up",
        labels=("fear", "neutral", "joy"),
        pictures=tuple(Path(f"{number}.png") for number in range(count)),
        agreement=agreement,
        raters=None,
        groups=np.arange(count),
        terms="free",
        citation="none",
        valence=agreement @ HOW_PLEASANT + noise * rng.standard_normal(count),
        valence_scale="1 to 9",
    )


def test_the_valence_of_each_emotion_is_found_again() -> None:
    everything = np.arange(40)
    exact = valence_by_emotion(rated(), everything)
    assert exact == pytest.approx({"fear": 1.5, "neutral": 5.0, "joy": 8.5})
    assert valence_by_emotion(rated(noise=0.2), everything) == pytest.approx(exact, abs=0.3)


def test_only_the_pictures_named_are_learned_from() -> None:
    spoilt = rated()
    assert spoilt.valence is not None
    spoilt.valence[30:] = 1.0
    assert valence_by_emotion(spoilt, np.arange(30)) == pytest.approx(
        {"fear": 1.5, "neutral": 5.0, "joy": 8.5}
    )


def test_where_nobody_rated_valence_there_is_none() -> None:
    unrated = replace(rated(), valence=None, valence_scale=None)
    assert valence_by_emotion(unrated, np.arange(40)) is None


def test_filters_keep_each_picture_s_valence() -> None:
    whole = rated()
    assert whole.valence is not None
    kept = whole.keep_agreement(0.6)
    assert kept.valence is not None
    places = [whole.pictures.index(path) for path in kept.pictures]
    assert 0 < len(places) < len(whole)
    assert kept.valence.tolist() == whole.valence[places].tolist()


@pytest.mark.parametrize(
    "wrong",
    [{"valence": np.ones(3)}, {"valence": np.full(40, np.nan)}, {"valence_scale": None}],
)
def test_valence_that_is_no_valence_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(DataError, match="valence must be a number for each picture"):
        replace(rated(), **wrong)  # type: ignore[arg-type]

"""Find near-duplicate pictures, so that no picture is tested that was trained on in another size or quality.

Pictures are compared by perceptual hash (`imagehash.phash`: the signs of the 64 lowest frequencies of the
discrete cosine transform around their median). Likeness is taken as transitive. Pictures without any
structure, such as plain surfaces of whatever colour, are all alike to this hash. It does not find mirrored
pictures, nor crops but of a few hundredths: say so in a column of groups, if you know of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import imagehash
import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from app.picture import PictureError, decode
from training.affective_set import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

MAX_DISTANCE = 4
"""Hashes that differ in at most this many of 64 bits are near-duplicates. Unrelated pictures differ in 32."""
_CHUNK = 256  # rows compared at once: with 20,000 pictures, 41 MB of differences


def group_near_duplicates(pictures: Sequence[Path], *, max_distance: int = MAX_DISTANCE) -> NDArray[np.int64]:
    """Number the groups of near-duplicates among N pictures, ``[N]``; a lone picture has its own number.

    Args:
        pictures: files to compare.
        max_distance: hashes differ in at most this many of 64 bits.

    Raises:
        DataError: pictures are missing or cannot be decoded.
    """
    hashes, problems = perceptual_hashes(pictures)
    if problems:
        raise DataError("pictures cannot be compared", list(problems.values()))
    return group_hashes(hashes, max_distance=max_distance)


def near_any(
    pictures: Sequence[Path], others: Sequence[Path], *, max_distance: int = MAX_DISTANCE
) -> NDArray[np.bool_]:
    """Which of N pictures are in a group of near-duplicates with any of the others, ``[N]``.

    Takes and raises what `group_near_duplicates` does.
    """
    groups = group_near_duplicates((*pictures, *others), max_distance=max_distance)
    near: NDArray[np.bool_] = np.isin(groups[: len(pictures)], groups[len(pictures) :])
    return near


def perceptual_hashes(pictures: Sequence[Path]) -> tuple[NDArray[np.uint64], dict[int, str]]:
    """Hash N pictures.

    Returns:
        The hashes ``[N]``, and by index what is wrong with each picture that cannot be hashed.
    """
    hashes = np.zeros(len(pictures), np.uint64)
    problems = {}
    for index, path in enumerate(pictures):
        try:
            bits = imagehash.phash(decode(path.read_bytes()).rgb).hash
        except (OSError, PictureError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            problems[index] = f"{path}: {reason}"
        else:
            hashes[index] = np.packbits(bits).view(np.uint64)[0]
    return hashes, problems


def group_hashes(hashes: NDArray[np.uint64], *, max_distance: int = MAX_DISTANCE) -> NDArray[np.int64]:
    """Number the groups ``[N]`` of hashes ``[N]`` that differ in at most `max_distance` bits."""
    # Equal hashes are merged first: many plain pictures would otherwise make a quadratic number of pairs.
    unique, inverse = np.unique(hashes, return_inverse=True)
    first, second = [], []
    for start in range(0, len(unique), _CHUNK):
        differing = np.bitwise_count(unique[start : start + _CHUNK, None] ^ unique[None, start:])
        near = np.nonzero(differing <= max_distance)
        first.append(near[0] + start)
        second.append(near[1] + start)
    return _components(np.concatenate(first), np.concatenate(second), len(unique))[inverse]


def merge_groups(a: NDArray[np.int64], b: NDArray[np.int64]) -> NDArray[np.int64]:
    """Groups ``[N]`` of pictures that are together in `a` ``[N]`` or in `b` ``[N]``, or in both by turns."""
    _, in_a = np.unique(a, return_inverse=True)
    _, in_b = np.unique(b, return_inverse=True)
    in_b = in_b + len(a)  # the nodes of a graph: the groups of one, then of the other; a picture joins two
    return _components(in_a, in_b, 2 * len(a))[in_a]


def _components(first: NDArray[np.int64], second: NDArray[np.int64], nodes: int) -> NDArray[np.int64]:
    edges = coo_array((np.ones(len(first), np.bool_), (first, second)), shape=(nodes, nodes))
    _, component = connected_components(edges, directed=False)
    return np.asarray(component, np.int64)

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.training.drawing import draw, scene, truncate
from training import near_duplicates
from training.affective_set import DataError
from training.near_duplicates import group_hashes, group_near_duplicates, merge_groups

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


def partition(groups: NDArray[np.int64]) -> set[frozenset[int]]:
    return {frozenset(np.flatnonzero(groups == group).tolist()) for group in groups}


def test_another_size_format_or_tint_is_a_near_duplicate_and_another_scene_is_not(tmp_path: Path) -> None:
    pictures = [draw(tmp_path / f"{seed}.png", seed) for seed in range(4)]
    scene(1).resize((150, 90)).save(tmp_path / "smaller.jpg", quality=60)
    grey = scene(2).convert("L").convert("RGB")
    Image.blend(grey, Image.new("RGB", grey.size, "orange"), 0.2).save(tmp_path / "tinted.webp")
    pictures += [tmp_path / "smaller.jpg", tmp_path / "tinted.webp"]
    groups = group_near_duplicates(pictures)
    assert partition(groups) == {frozenset({0}), frozenset({1, 4}), frozenset({2, 5}), frozenset({3})}


def test_every_picture_that_cannot_be_compared_is_listed(tmp_path: Path) -> None:
    broken = truncate(draw(tmp_path / "broken.jpg"))
    (tmp_path / "text.png").write_text("not a picture")
    pictures = [draw(tmp_path / "good.png"), broken, tmp_path / "text.png", tmp_path / "gone.png"]
    with pytest.raises(DataError) as caught:
        group_near_duplicates(pictures)
    assert len(caught.value.problems) == 3
    for name, reason in (
        ("broken.jpg", "truncated"),
        ("text.png", "not a JPEG"),
        ("gone.png", "No such file"),
    ):
        assert any(name in problem and reason in problem for problem in caught.value.problems)


def test_hashes_are_alike_up_to_the_distance_and_through_each_other() -> None:
    hashes = np.array([0, 0b11, 0b1111, 0xFF00, 0b11], np.uint64)
    assert partition(group_hashes(hashes, max_distance=0)) == {
        frozenset({0}), frozenset({1, 4}), frozenset({2}), frozenset({3})
    }  # fmt: skip
    assert partition(group_hashes(hashes, max_distance=2)) == {frozenset({0, 1, 2, 4}), frozenset({3})}
    assert len(partition(group_hashes(hashes, max_distance=1))) == 4
    assert len(partition(group_hashes(hashes, max_distance=64))) == 1


def test_groups_are_the_same_however_many_rows_are_compared_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    base = rng.integers(0, 2**64, 40, np.uint64)
    hashes = np.concatenate([base, base[:20] ^ np.uint64(0b1001), base[10:30] ^ np.uint64(1 << 63)])
    together = partition(group_hashes(hashes))
    assert len(together) == 40
    monkeypatch.setattr(near_duplicates, "_CHUNK", 7)
    assert partition(group_hashes(hashes)) == together


groupings = st.integers(1, 25).flatmap(
    lambda n: st.tuples(*[st.lists(st.integers(-3, 12), min_size=n, max_size=n)] * 2)
)


@given(groupings)
def test_merged_groups_are_the_finest_that_cut_neither(pair: tuple[list[int], list[int]]) -> None:
    a, b = pair
    merged = list(range(len(a)))  # the slow way: join two pictures until nothing changes
    for _ in a:
        for i in range(len(a)):
            for j in range(i):
                if (a[i] == a[j] or b[i] == b[j]) and merged[i] != merged[j]:
                    merged = [merged[j] if group == merged[i] else group for group in merged]
    result = merge_groups(np.array(a), np.array(b))
    assert partition(result) == partition(np.array(merged))

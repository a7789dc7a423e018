from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from tests.training.drawing import scene
from training.augment import DEFAULT, REFUSED, AugmentationError, compose

ALLOWED = ("flip", "crop", "turn", "light", "colour")
SIDE = 75
CHOICES = [(name,) for name in ALLOWED] + [DEFAULT, ALLOWED]


def draws(names: tuple[str, ...], picture: Image.Image, count: int = 40) -> list[torch.Tensor]:
    torch.manual_seed(0)
    transform = compose(names, SIDE)
    return [transform(picture) for _ in range(count)]


def half_and_half(first: str, second: str, *, stacked: bool) -> Image.Image:
    """Two colours, one above the other or side by side."""
    picture = Image.new("RGB", (100, 100), first)
    picture.paste(second, (0, 50, 100, 100) if stacked else (50, 0, 100, 100))
    return picture


@pytest.mark.parametrize("name", REFUSED)
def test_what_changes_the_feeling_is_refused_with_the_reason(name: str) -> None:
    with pytest.raises(AugmentationError) as caught:
        compose(["flip", name], SIDE)
    assert str(caught.value) == f"{name} is refused: {REFUSED[name]}"


def test_an_unknown_augmentation_is_named_and_the_known_ones_are_listed() -> None:
    with pytest.raises(AugmentationError, match="'mixup'") as caught:
        compose(["mixup"], SIDE)
    assert all(name in str(caught.value) for name in ALLOWED)


@pytest.mark.parametrize("names", CHOICES)
@pytest.mark.parametrize("size", [(40, 30), (75, 75), (50, 180)])
def test_a_picture_of_any_size_becomes_bytes_of_the_networks_size(
    names: tuple[str, ...], size: tuple[int, int]
) -> None:
    for tensor in draws(names, scene(0).resize(size), 3):
        assert tensor.shape == (3, SIDE, SIDE)
        assert tensor.dtype == torch.uint8


@pytest.mark.parametrize("names", CHOICES)
def test_an_augmentation_changes_something(names: tuple[str, ...]) -> None:
    assert len({tensor.numpy().tobytes() for tensor in draws(names, scene(0))}) > 1


@pytest.mark.parametrize("names", CHOICES)
def test_the_top_stays_on_top(names: tuple[str, ...]) -> None:
    for tensor in draws(names, half_and_half("white", "black", stacked=True)):
        top, bottom = tensor.float().mean(dim=(0, 2)).chunk(2)[0], tensor.float().mean(dim=(0, 2))[-30:]
        assert top.mean() > bottom.mean() + 80


@pytest.mark.parametrize("names", CHOICES)
def test_colours_keep_their_hue_and_light_stays_light(names: tuple[str, ...]) -> None:
    upper, lower = slice(5, 15), slice(60, 70)  # no crop or turn brings the border between them here
    for tensor in draws(names, half_and_half("#e06060", "#305080", stacked=True)):
        red, green, blue = tensor.float()[:, upper, 25:50].mean(dim=(1, 2))
        assert red > max(green, blue) + 40
        red, green, blue = tensor.float()[:, lower, 25:50].mean(dim=(1, 2))
        assert blue > green > red


def test_a_flip_only_mirrors() -> None:
    picture = scene(0, SIDE)
    original = torch.from_numpy(np.array(picture)).permute(2, 0, 1)
    seen = {"as it was": 0, "mirrored": 0}
    for tensor in draws(("flip",), picture):
        if torch.equal(tensor, original):
            seen["as it was"] += 1
        else:
            assert torch.equal(tensor, original.flip(2))
            seen["mirrored"] += 1
    assert min(seen.values()) > 5


def test_no_augmentation_but_the_flip_swaps_left_and_right() -> None:
    names = tuple(name for name in ALLOWED if name != "flip")
    for tensor in draws(names, half_and_half("white", "black", stacked=False)):
        assert tensor[:, :, :20].float().mean() > tensor[:, :, -20:].float().mean() + 80


def test_the_order_of_the_names_does_not_matter() -> None:
    forth, back = draws(ALLOWED, scene(0), 3), draws(ALLOWED[::-1], scene(0), 3)
    assert all(torch.equal(a, b) for a, b in zip(forth, back, strict=True))

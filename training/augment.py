"""Augmentations that keep what a picture makes people feel, and the refusal of those that do not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torchvision.transforms import v2

if TYPE_CHECKING:
    from collections.abc import Sequence

REFUSED = {
    "upside-down": "a scene on its head does not evoke what it evokes upright",
    "hue": "turned hues make blood green and a sunset blue",
    "invert": "a negative does not evoke what its picture evokes",
    "solarize": "partly inverted pictures do not evoke what their originals evoke",
    "posterize": "hard bands of colour evoke something of their own",
}
DEFAULT = ("flip", "crop", "light")
SMALLEST_CROP = 0.6
"""Share of the picture's area that a crop keeps at least: less may cut out what evokes the emotion."""
LARGEST_TURN = 10.0
"""Degrees; about what a hand-held camera is off."""


class AugmentationError(ValueError):
    """The augmentation would change the feeling, or there is none of that name."""


def compose(names: Sequence[str], side: int) -> v2.Compose:
    """Pillow pictures to ``uint8 [3, side, side]``, through the named augmentations.

    Args:
        names: of ``flip`` (left and right), ``crop``, ``turn`` (a few degrees), ``light`` (brightness and
            contrast), ``colour`` (saturation).
        side: of the network's input, in pixels.

    Raises:
        AugmentationError: a name stands for something that changes the feeling, or is unknown.
    """
    steps: dict[str, v2.Transform] = {
        "turn": v2.RandomRotation(LARGEST_TURN, interpolation=v2.InterpolationMode.BILINEAR),
        "crop": v2.RandomResizedCrop((side, side), scale=(SMALLEST_CROP, 1.0)),
        "flip": v2.RandomHorizontalFlip(),
        "light": v2.ColorJitter(brightness=0.2, contrast=0.2),
        "colour": v2.ColorJitter(saturation=0.2),
    }
    for name in names:
        if name in REFUSED:
            raise AugmentationError(f"{name} is refused: {REFUSED[name]}")
        if name not in steps:
            raise AugmentationError(f"there is no augmentation {name!r}; there are {', '.join(steps)}")
    chosen = [step for name, step in steps.items() if name in names]
    # The last resize makes every picture the network's size, cropped or not.
    return v2.Compose([*chosen, v2.Resize((side, side)), v2.PILToTensor()])

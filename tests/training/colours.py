"""Pictures of three colours and start weights that tell them apart, for tests that train a real network."""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn
from torchvision.models.inception import Inception3

from app.checkpoint import CHECKSUMS
from tests.training.drawing import scene
from training.partition import Partition
from training.sources import SourceOptions, load

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

    from training.affective_set import AffectiveSet

LABELS = ("blue", "green", "red")  # as a folder of folders is read: in alphabetical order
SIDE = 75
EACH = 10


def draw_folder(folder: Path) -> Path:
    """Thirty pictures, sorted by their colour into one folder a label."""
    for place, label in enumerate(LABELS):
        (folder / label).mkdir(parents=True)
        for n in range(EACH):
            blobs = scene(place * EACH + n)
            Image.blend(blobs, Image.new("RGB", blobs.size, label), 0.6).save(folder / label / f"{n:02}.png")
    return folder


def colour_set(folder: Path, *, agreement: float = 0.8, raters: float = 10) -> AffectiveSet:
    """The thirty pictures, on whose colour that share of the raters agreed; the rest chose the next one."""
    rated = load("image_folder", folder, SourceOptions(name="colours", near_duplicates=False))
    others = np.roll(rated.agreement, 1, axis=1)
    return replace(
        rated,
        agreement=agreement * rated.agreement + (1 - agreement) * others,
        raters=np.full(len(rated), raters),
    )


def parts(rated: AffectiveSet, *, train: int, validation: int) -> Partition:
    """So many pictures of each colour to train on and to validate with; the others are for the test."""
    place = np.arange(len(rated)) % EACH

    def where(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
        return np.flatnonzero(mask)

    return Partition(
        train=where(place < train),
        validation=where((place >= train) & (place < train + validation)),
        test=where(place >= train + validation),
    )


def scenes(count: int) -> Tensor:
    """Scenes as a network's input, ``uint8 [count, 3, SIDE, SIDE]``."""
    pixels = np.stack([np.asarray(scene(seed, SIDE)) for seed in range(count)])
    return torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy())


@torch.no_grad()
def settle(network: nn.Module, pictures: Tensor, *, centred: tuple[str, ...] = ()) -> None:
    """Have every batch norm bring these pictures to unit size: no signal dies or explodes.

    All channels are scaled alike. In a random network, whose channels hardly vary, the usual statistics
    would blow up the rounding of every weight; only the `centred` blocks have them.
    """

    def scale(norm: nn.Module, inputs: tuple[Tensor]) -> None:
        norm.running_var = inputs[0].square().mean().repeat(inputs[0].shape[1])

    def centre(norm: nn.Module, inputs: tuple[Tensor]) -> None:
        norm.running_var, norm.running_mean = torch.var_mean(inputs[0], dim=(0, 2, 3))

    norms = {name: module for name, module in network.named_modules() if isinstance(module, nn.BatchNorm2d)}
    hooks = [
        norm.register_forward_pre_hook(centre if name.startswith(centred) else scale)
        for name, norm in norms.items()
    ]
    network.eval()(pictures)
    for hook in hooks:
        hook.remove()


def write_start_weights(path: Path) -> Path:
    """Random convolutions that have seen some scenes; what the last layer reads varies between pictures."""
    torch.manual_seed(0)
    network = Inception3(aux_logits=False, init_weights=False)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    settle(network, scenes(16).float() / 127.5 - 1, centred=("Mixed_7c",))
    state = {key: value for key, value in network.state_dict().items() if not key.startswith("fc.")}
    meta = {"mean": "0.5", "std": "0.5", "count_border": "true", "provenance": "random, for tests"}
    save_file(state, path, metadata=meta)
    return path


def copied_alone(checkpoint: Path, folder: Path) -> Path:
    """A copy of a checkpoint with its digest, and nothing else of what lies beside it."""
    for name in (checkpoint.name, CHECKSUMS):
        shutil.copy(checkpoint.with_name(name), folder / name)
    return folder / checkpoint.name

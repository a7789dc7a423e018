"""From a run to a checkpoint: batch norm folded in, half precision, TorchScript, a card and a checksum."""

from __future__ import annotations

import copy
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.models.inception import BasicConv2d

from app import loading
from app.checkpoint import CARD_FILE, torchscript
from training.checksums import list_digest
from training.learned import LEARNED

if TYPE_CHECKING:
    from app.card import Card
    from app.checkpoint import Checkpoint

Network = TypeVar("Network", bound=nn.Module)


def fold_batch_norm(network: Network) -> Network:
    """A copy whose convolutions have taken in their batch norm: the same function, a third fewer passes."""
    folded = copy.deepcopy(network).eval()
    for module in folded.modules():
        if isinstance(module, BasicConv2d):
            module.conv = fuse_conv_bn_eval(module.conv, module.bn)
            module.bn = nn.Identity()
    return folded


def as_served(network: nn.Module, card: Card, device: torch.device) -> Checkpoint:
    """The checkpoint as the service would load it: what is measured is a file, not the network."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "checkpoint.pt"
        write(network, card, path)
        return loading.load(path, device)


def write(network: nn.Module, card: Card, path: Path, learned: str = "") -> str:
    """Write the checkpoint, list it in ``SHA256SUMS`` beside it, and return its digest.

    The file appears only when it is complete. Beside its card it keeps, as `training.learned` writes them,
    digests of the pictures that were learned from.

    Raises:
        OSError: it cannot be written; a file that was there is as it was.
    """
    half = fold_batch_norm(network.cpu()).half()
    with torchscript():
        script = torch.jit.script(half)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        extra = {CARD_FILE: card.model_dump_json(indent=2)} | ({LEARNED: learned} if learned else {})
        try:  # not by `replacing`: TorchScript keeps the name that it is written under in the file
            script.save(str(partial), _extra_files=extra)  # type: ignore[no-untyped-call]
            partial.replace(path)
        except RuntimeError as error:  # of a full disk, for one
            raise OSError(f"{path} cannot be written: {error}") from error
        finally:
            partial.unlink(missing_ok=True)
    return list_digest(path)

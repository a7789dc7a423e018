"""Where the network's first weights come from.

``torchvision`` downloads torchvision's ImageNet weights and is the default. A checkpoint (``.pt``) that was
exported here can be trained on. A ``.safetensors`` file holds a torchvision state dictionary whose metadata
say how its pixels are scaled; `from_nsfwjs` writes such a file from the npm package ``nsfwjs`` (MIT), for
places where torchvision's download cannot be reached.
"""

from __future__ import annotations

import base64
import json
import math
import re
import tarfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.error import URLError

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torchvision.models import Inception_V3_Weights
from torchvision.models.inception import Inception3

from app.card import DataSource
from app.checkpoint import CheckpointError, sha256_of
from training.learned import LEARNED, NOTHING, from_text, in_checkpoint
from training.unfold import unfold
from training.written import save_tensors

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from training.learned import Digests

TORCHVISION = "torchvision"


class WeightsError(ValueError):
    """There are no start weights in the file; the message says what is wrong with it."""


@dataclass(frozen=True)
class StartWeights:
    """Pretrained blocks and the conventions that they were trained with.

    Attributes:
        state: a torchvision Inception3 state dictionary; the last layer may be missing.
        mean: subtracted from pixels scaled to 0..1.
        std: divides what is left.
        count_border: whether average pooling counts the zero border.
        provenance: a sentence for the card.
        learned_from: rated pictures that an earlier run of ours has already shown to them.
        commands: what made them, a line each, as far as it was ours.
        head: weight ``[F]`` and bias of each emotion in the last layer of an earlier run of ours, by the
            emotion's name.
        reads: the blocks that this last layer reads.
        pictures: digests of the pictures that they have learned from, see `training.learned`.
    """

    state: dict[str, Tensor]
    mean: float
    std: float
    count_border: bool
    provenance: str
    learned_from: tuple[DataSource, ...] = ()
    commands: tuple[str, ...] = ()
    head: Mapping[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
    reads: tuple[str, ...] = ()
    pictures: Digests = NOTHING

    def head_for(
        self, labels: Sequence[str], columns: Sequence[str], reads: Sequence[str]
    ) -> tuple[Tensor, Tensor] | None:
        """Weight ``[K, F]`` and bias ``[K]`` for K emotions, if the earlier run knows all of them.

        It may know them as a table of two sets calls them, or by their own names, or by the columns of a set
        of another name, if there is only one such set.

        Args:
            labels: the K emotions.
            columns: what `training.pseudo_rate.column_names` calls them.
            reads: the blocks whose features the last layer is for.
        """
        if {*reads} != {*self.reads}:
            return None
        for names in (columns, labels, *self._of_another_set(labels)):
            if {*names} <= self.head.keys():
                weights, biases = zip(*(self.head[name] for name in names), strict=True)
                return torch.stack(weights), torch.stack(biases)
        return None

    def _of_another_set(self, labels: Sequence[str]) -> list[list[str]]:
        """Columns of these emotions in the only set that has all of them; none if there are several sets."""
        named = [
            {name.removesuffix(label) for name in self.head if name.endswith(f" {label}")} for label in labels
        ]
        sets = set.intersection(*named)
        return [[first + label for label in labels] for first in sets] if len(sets) == 1 else []


def digest(source: str) -> str:
    """What tells these weights from any others: a file's SHA-256, or the name of torchvision's."""
    path = Path(source)
    return sha256_of(path) if path.is_file() else source


def load(source: str | Path) -> StartWeights:
    """Weights from torchvision (downloaded once), from a checkpoint, or from a ``.safetensors`` file.

    Raises:
        WeightsError: the file is damaged, or does not say how its pixels are scaled, or is a checkpoint that
            `app.checkpoint.verified` refuses.
        OSError: the file is missing or the download failed.
    """
    if str(source) == TORCHVISION:
        weights = Inception_V3_Weights.IMAGENET1K_V1
        try:
            state = weights.get_state_dict(progress=True, check_hash=True)
        except URLError as error:
            raise WeightsError(
                f"torchvision's weights cannot be downloaded ({error.reason}); pass --weights with a file of "
                "start weights, for example one that `python -m training weights` makes"
            ) from error
        # torchvision's transform_input undoes its own normalisation: the network really sees -1..1.
        return StartWeights(
            state,
            mean=0.5,
            std=0.5,
            count_border=True,
            provenance=f"torchvision {weights} (ImageNet-1k)",
        )
    if str(source).endswith(".pt"):
        return _from_checkpoint(Path(source))
    try:
        with safe_open(str(source), framework="pt") as file:
            meta = file.metadata() or {}
            if missing := {"mean", "std", "count_border", "provenance"} - meta.keys():
                raise WeightsError(f"{source} lacks the metadata {sorted(missing)}")
            tensors = {key: file.get_tensor(key).float() for key in file.keys()}  # noqa: SIM118 - not a dict
    except SafetensorError as error:
        raise WeightsError(f"{source} is not a safetensors file: {error}") from error
    labels = json.loads(meta.get("labels", "[]"))
    weight, bias = (tensors.pop(f"head.{part}", torch.zeros(0)) for part in ("weight", "bias"))
    return StartWeights(
        # An earlier run of ours keeps torchvision's blocks under "blocks.".
        {key.removeprefix("blocks."): tensor for key, tensor in tensors.items()},
        mean=float(meta["mean"]),
        std=float(meta["std"]),
        count_border=json.loads(meta["count_border"]),
        provenance=meta["provenance"],
        learned_from=tuple(DataSource(**source) for source in json.loads(meta.get("learned_from", "[]"))),
        commands=tuple(meta.get("commands", "").splitlines()),
        head=dict(zip(labels, zip(weight, bias, strict=True), strict=True)) if labels else {},
        reads=tuple(json.loads(meta.get("reads", "[]"))),
        pictures=from_text(meta.get(LEARNED, "")),
    )


def _from_checkpoint(path: Path) -> StartWeights:
    try:
        network, card = unfold(path)
    except CheckpointError as error:
        raise WeightsError(str(error)) from error
    return StartWeights(
        network.blocks.state_dict(),
        mean=network.mean,
        std=network.std,
        count_border=network.count_border,
        provenance=card.start_weights,
        learned_from=card.data,
        commands=tuple(card.command.splitlines()),
        pictures=in_checkpoint(path),
    )


_FOLDER = "package/dist/models/inception_v3/"
_SHARDS = 6
_NUMBER = r"(-?[0-9.]+(?:[eE][-+]?\d+)?)"
_TENSOR = re.compile(
    r'\{name:"([^"]+)",shape:\[([\d,]*)\],dtype:"float32",'
    rf'quantization:\{{min:{_NUMBER},scale:{_NUMBER},dtype:"uint8"\}}\}}'
)
_BASE64 = re.compile(r'"([A-Za-z0-9+/]{10000,}={0,2})"')


def from_nsfwjs(package: Path, out: Path) -> int:
    """Convert the Keras Inception-V3 inside ``nsfwjs-4.4.0.tgz`` and return the number of tensors.

    The package stores affine ``uint8`` tensors (value = q * scale + min) one after another in the order of
    its manifest. The n-th Keras convolution is the n-th ``BasicConv2d`` of torchvision's Inception3.

    Raises:
        WeightsError: the package is not laid out as version 4.4.0 is.
    """
    keras = _read_tensors(package)

    def tensor(name: str) -> NDArray[np.float32]:
        if name not in keras:
            raise WeightsError(f"{package.name} lacks {name}")
        return keras[name]

    with torch.device("meta"):
        twin = Inception3(aux_logits=False, init_weights=False)
    names = [name for name, module in twin.named_modules() if type(module).__name__ == "BasicConv2d"]
    state: dict[str, Tensor] = {}
    for number, name in enumerate(names, 1):
        kernel = tensor(f"conv2d_{number}/kernel")  # height, width, in, out
        norm = f"batch_normalization_{number}"
        state[f"{name}.conv.weight"] = torch.from_numpy(np.ascontiguousarray(kernel.transpose(3, 2, 0, 1)))
        state[f"{name}.bn.weight"] = torch.ones(kernel.shape[3])  # Keras trained it without a scale
        for key, part in (
            ("bias", "beta"),
            ("running_mean", "moving_mean"),
            ("running_var", "moving_variance"),
        ):
            state[f"{name}.bn.{key}"] = torch.from_numpy(tensor(f"{norm}/{part}"))
    expected = {key: value.shape for key, value in twin.state_dict().items()}
    if wrong := [key for key, value in state.items() if expected.get(key) != value.shape]:
        raise WeightsError(f"{package.name} does not fit Inception3 at {wrong[0]}")
    provenance = (
        "npm nsfwjs 4.4.0 (MIT), dist/models/inception_v3: a Keras Inception-V3, pretrained on ImageNet and "
        "fine-tuned by its authors on scraped adult content, 8-bit"
    )
    metadata = {
        "mean": "0.0",
        "std": "1.0",
        "count_border": "false",
        "provenance": provenance,
        "commands": f"mkdir -p {package.parent}\n"
        f"npm pack nsfwjs@4.4.0 --pack-destination {package.parent}\n"
        f"python -m training weights {package} {out}",
    }
    save_tensors(state, out, metadata)
    return len(state)


def _read_tensors(package: Path) -> dict[str, NDArray[np.float32]]:
    manifest, blob = _manifest_and_weights(package)
    shapes = {name: tuple(int(side) for side in shape.split(",") if side) for name, shape, *_ in manifest}
    total = sum(math.prod(shape) for shape in shapes.values())
    if total != len(blob):
        raise WeightsError(
            f"{package.name} holds {len(blob)} bytes of weights, but its manifest says {total}"
        )
    tensors: dict[str, NDArray[np.float32]] = {}
    offset = 0
    for name, _, low, scale in manifest:
        quantised = np.frombuffer(blob, np.uint8, math.prod(shapes[name]), offset)
        tensors[name] = (quantised * float(scale) + float(low)).astype(np.float32).reshape(shapes[name])
        offset += quantised.size
    return tensors


def _manifest_and_weights(package: Path) -> tuple[list[tuple[str, str, str, str]], bytes]:
    """Name, shape, smallest value and scale of every tensor, and the bytes of all of them."""
    blob = b""
    try:
        with tarfile.open(package) as archive:
            manifest = _TENSOR.findall(_text(archive, "model.min.js"))
            for number in range(1, _SHARDS + 1):
                shard = f"group1-shard{number}of{_SHARDS}.min.js"
                if (part := _BASE64.search(_text(archive, shard))) is None:
                    raise WeightsError(f"{package.name} has no weights in {_FOLDER + shard}")
                blob += base64.b64decode(part.group(1))
    except KeyError as error:  # what tarfile raises for a file that is not there
        raise WeightsError(f"{package.name} has no such file: {error.args[0]}") from error
    except (tarfile.TarError, EOFError) as error:
        raise WeightsError(f"{package.name} is not a package: {error}") from error
    return manifest, blob


def _text(archive: tarfile.TarFile, name: str) -> str:
    file = archive.extractfile(_FOLDER + name)
    return "" if file is None else file.read().decode("utf-8")

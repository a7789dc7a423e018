"""Why a last layer on frozen blocks learns nothing: the usual causes, each told by a measurement.

A last layer that does not beat chance by far is seldom a matter of settings. Nearly always the labels are
not those of the pictures, the network is fed pixels in another unit than it learned with, its weights are
not those of a trained network, or the pictures are too few, too alike or nearly all of one emotion.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from training.head import extract, fit_head
from training.metrics import negative_log_likelihood
from training.pictures import RatedPictures, batches

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from training.affective_set import AffectiveSet
    from training.inception import EmotionInception
    from training.metrics import Floats
    from training.partition import Partition

Part = tuple["Tensor", "Tensor"]

PICTURES = 300
"""At most so many are read again for a cause that needs other pixels."""
_FEW = 5  # pictures of an emotion
_ONE_SIDED = 0.8  # share of pictures that one emotion dominates
_ALIKE = 1e-3  # variation of features beside their size
_COLOURS_SEEN = (
    0.3  # of the variance of a picture's mean colour; a trained network's features tell most of it
)
_CLEARLY = 0.05  # nats
_MUCH = 0.1  # nats; the best of several scales is a little better by luck
_SHUFFLES = 3
_SCALES = {
    "-1 to 1 (Keras, TensorFlow)": (0.5, 0.5),
    "ImageNet's mean and deviation (torchvision)": (0.449, 0.226),
    "0 to 1": (0.0, 1.0),
    "0 to 255": (0.0, 1 / 255),
}


def least_accuracy(labels: int) -> float:
    """Twice chance; with fewer than three labels, half of the way from chance to perfection."""
    return min(2 / labels, (1 + 1 / labels) / 2)


def causes(
    network: EmotionInception,
    rated: AffectiveSet,
    partition: Partition,
    training: Part,
    held_out: Part,
    *,
    side: int,
) -> list[str]:
    """Those of the usual causes that measurements speak for, a sentence each.

    Args:
        network: whose frozen blocks were used.
        rated: the pictures.
        partition: of them.
        training: pooled features and targets of the training pictures.
        held_out: of the validation pictures.
        side: of the network's input.
    """
    found = [*_about_the_set(rated, partition), *_about_pixels(network, rated, partition, side)]
    if not found:
        found = [*_about_features(rated, partition, training, side)]
    if not found:
        found = [*_about_labels(network, training, held_out)]
    return found


def _about_the_set(rated: AffectiveSet, partition: Partition) -> Iterator[str]:
    counts = np.bincount(rated.dominant[partition.train], minlength=len(rated.labels))
    most, total = int(counts.argmax()), int(counts.sum())
    if counts[most] > _ONE_SIDED * total:
        yield (
            f"one emotion is nearly everything: {rated.labels[most]} dominates {counts[most]} of {total} "
            "training pictures. Collect others, or keep fewer of it"
        )
    if np.median(counts) < _FEW:
        shown = ", ".join(f"{label} {count}" for label, count in zip(rated.labels, counts, strict=True))
        yield f"too few pictures to learn from: {shown}. Keep the most common emotions, or collect more"
    groups = len(np.unique(rated.groups[partition.train]))
    if groups < total / 2:
        yield f"the {total} training pictures are near duplicates of only {groups} different ones"


def _about_pixels(
    network: EmotionInception, rated: AffectiveSet, partition: Partition, side: int
) -> Iterator[str]:
    """Whether the same blocks tell more when pixels are scaled as other frameworks scale them."""
    own = (network.mean, network.std)

    def loss(scale: tuple[float, float]) -> float:
        network.mean, network.std = scale
        parts = []
        for indices, count in ((partition.train, PICTURES), (partition.validation, PICTURES // 2)):
            few = np.random.default_rng(0).permutation(indices)[:count]
            shown = batches(RatedPictures(rated, few, side=side), batch=16)
            parts.append(extract(network, shown, network.head.weight.device))
        return _held_out_loss(network, *parts)

    known, unknown = (rated.agreement[each] for each in (partition.train, partition.validation))
    eyeless = float(negative_log_likelihood(np.tile(known.mean(axis=0), (len(unknown), 1)), unknown).mean())
    try:
        before = loss(own)
        others = {
            name: loss(scale) for name, scale in _SCALES.items() if not np.allclose(scale, own, rtol=0.05)
        }
    finally:
        network.mean, network.std = own
    name = min(others, key=others.__getitem__)
    if others[name] < min(before, eyeless) - _MUCH:
        yield (
            f"the pixels are scaled wrongly: with a mean of {own[0]:g} and a deviation of {own[1]:g} the "
            f"last layer reaches {before:.3f} nats on held-out pictures, with {name} {others[name]:.3f}. "
            "Make the start weights again, with the scale that they were trained with"
        )


def _about_features(rated: AffectiveSet, partition: Partition, training: Part, side: int) -> Iterator[str]:
    """Whether the blocks see anything at all: a picture's colours are the least that there is to see."""
    features = training[0].double().numpy()
    size = np.abs(features).mean() + np.finfo(float).tiny
    if not np.isfinite(features).all() or np.median(features.std(axis=0)) < _ALIKE * size:
        yield (
            "the start weights are broken: every picture has the same features. Make them again, and load "
            "those of a trained network"
        )
        return
    few = np.random.default_rng(0).permutation(len(partition.train))[:PICTURES]
    pictures = RatedPictures(rated, partition.train[few], side=side)
    colours = np.array([pictures[place][0].float().mean(dim=(1, 2)).numpy() for place in range(len(few))])
    told = _explained(features[few], colours)
    if told < _COLOURS_SEEN:
        yield (
            f"the start weights see nothing: of the pictures' mean colours their features tell "
            f"{max(told, 0):.0%}. Load those of a trained network"
        )


def _about_labels(network: EmotionInception, training: Part, held_out: Part) -> Iterator[str]:
    """Whether the labels tell more than the same labels given to other pictures."""
    features, targets = training
    true = _held_out_loss(network, training, held_out)
    generator = torch.Generator().manual_seed(0)
    shuffled = [
        _held_out_loss(
            network, (features, targets[torch.randperm(len(targets), generator=generator)]), held_out
        )
        for _ in range(_SHUFFLES)
    ]
    if true > min(shuffled) - _CLEARLY:
        yield (
            f"labels and pictures do not belong together: the last layer reaches {true:.3f} nats on held-out "
            f"pictures, and {min(shuffled):.3f} when it learns the same labels shuffled, while the features "
            "do tell the pictures' colours. Look at some pictures with their labels"
        )


def _held_out_loss(network: EmotionInception, training: Part, held_out: Part) -> float:
    """Of the best last layer; the network keeps its own."""
    weight, bias = network.head.weight.detach().clone(), network.head.bias.detach().clone()
    found = fit_head(network, training, held_out)
    with torch.no_grad():
        network.head.weight.copy_(weight)
        network.head.bias.copy_(bias)
    return found.validation_loss


def _explained(features: Floats, wanted: Floats) -> float:
    """Share of the variance that a linear map tells of the second half, when fitted to the first."""
    half = len(features) // 2
    model = make_pipeline(StandardScaler(), Ridge(alpha=float(half)))
    model.fit(features[:half], wanted[:half])
    return float(model.score(features[half:], wanted[half:]))

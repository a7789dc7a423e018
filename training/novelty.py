"""How far a picture is from those that a network learned from, told from the network's own features.

The distance is that of Lee et al. 2018, arXiv 1807.03888, eq. 2: Mahalanobis' in the space of pooled
features, of a Gaussian around the training pictures. Here it is one Gaussian for all pictures, because raters
disagree and pictures have no single class. With more features than pictures its covariance cannot be
estimated: the directions in which the pictures vary most have their own variances, and all others share one,
as in probabilistic PCA (Tipping and Bishop 1999); together the others count as much as those directions.
Features are scaled to unit length first, which tells strange pictures apart better than their length does
(Mueller and Hein 2025, arXiv 2505.18032, "Mahalanobis++").
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from sklearn.decomposition import PCA
from torch import Tensor, nn
from torch.nn.functional import normalize

from training.head import extract
from training.pictures import RatedPictures, batches

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from training.affective_set import AffectiveSet
    from training.inception import EmotionInception

DIRECTIONS = 64
PICTURES = 1000
"""So many training pictures tell what is usual; more would only take longer."""
_SMALLEST = 1e-6  # features that do not vary at all are not divided by nothing
_LENGTH = 100.0  # of scaled features; near 1, what lies across the directions is lost in half precision


class Novelty(nn.Module):
    """Pooled features ``[N, F]`` to distances ``[N]``; those that it was made of have a mean square of 1.

    Args:
        features: ``[M, F]`` of M pictures that are usual.
    """

    if TYPE_CHECKING:  # TorchScript reads annotations, and cannot read these
        centre: Tensor
        directions: Tensor
        along: Tensor
        across: Tensor

    def __init__(self, features: Tensor) -> None:
        super().__init__()
        self.length = _LENGTH  # TorchScript sees no globals
        seen = normalize(features.double()).numpy() * _LENGTH
        with np.errstate(invalid="ignore"):  # of features that do not vary, none has a share of the variance
            found = PCA(min(DIRECTIONS, len(seen) // 2, seen.shape[1] - 1), svd_solver="full").fit(seen)
        along = found.transform(seen)
        across = (np.square(seen - found.mean_).sum(axis=1) - np.square(along).sum(axis=1)).mean()
        for name, values in (
            ("centre", found.mean_),
            ("directions", found.components_.T.copy()),
            ("along", np.maximum(np.square(along).mean(axis=0), _SMALLEST)),
            ("across", np.maximum(across, _SMALLEST)),
        ):
            self.register_buffer(name, torch.as_tensor(values).float())

    def forward(self, features: Tensor) -> Tensor:
        """Distances ``[N]``, over the root of the number of directions."""
        moved = normalize(features) * self.length - self.centre
        along = moved @ self.directions
        across = (moved.square().sum(dim=1) - along.square().sum(dim=1)).clamp(min=0.0)
        squared = (along.square() / self.along).mean(dim=1) + across / self.across
        return (squared / 2.0).sqrt()


class JudgingNetwork(nn.Module):
    """A network that also says how novel a picture is: what is exported.

    Args:
        network: as it was trained.
        novelty: of features of that network.
    """

    def __init__(self, network: EmotionInception, novelty: Novelty) -> None:
        super().__init__()
        self.network = network
        self.novelty = novelty

    def forward(self, pictures: Tensor) -> Tensor:
        """Logits ``[N, K]`` of pictures ``[N, 3, H, W]``, integer or floating point in 0..255."""
        logits: Tensor = self.network(pictures)
        return logits

    @torch.jit.export
    def judge(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Logits ``[N, K]`` and novelty ``[N]``, in one pass."""
        features = self.network.features(pictures)
        return self.network.head(features), self.novelty(features)

    @torch.jit.export
    def activations(self, pictures: Tensor) -> dict[str, Tensor]:
        """What every block puts out, ``[N, C, h, w]`` by the block's name."""
        return self.network.activations(pictures)


def with_novelty(
    network: EmotionInception,
    rated: AffectiveSet,
    indices: NDArray[np.int64],
    *,
    side: int,
    seed: int,
    device: torch.device,
) -> JudgingNetwork:
    """The network with the novelty of its features, fitted to at most 1,000 of the pictures at `indices`."""
    order = np.random.default_rng(seed).permutation(len(indices))
    usual = RatedPictures(rated, indices[np.sort(order[:PICTURES])], side=side)
    network.eval().to(device)
    features, _ = extract(network, batches(usual, batch=16), device)
    return JudgingNetwork(network, Novelty(features)).eval()

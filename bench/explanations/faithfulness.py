"""Whether the network agrees with a map: insertion and deletion (RISE), and ROAD.

RISE (Petsiuk et al. 2018, arXiv 1806.07421): insertion starts from a blurred picture and shows its pixels
again, those that the map calls strongest first; deletion starts from the picture and turns them grey. What
counts is the area under the emotion's curve, insertion's less deletion's. The network is asked at the nodes
of Gauss and Legendre's quadrature, which finds an area with a fraction of the points that equal parts need.
Five err by up to a tenth for a single picture, in either direction, which the mean over pictures forgives;
``python -m bench.explain --points 24`` asks at more.

ROAD (Rong et al. 2022, arXiv 2202.00449): the strongest pixels, and in another run the weakest, are replaced
by noisy linear imputation from their neighbours, so that the hole itself tells the network nothing. The score
is how much more log-odds the picture keeps without its weakest pixels than without its strongest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

from bench.explanations.maps import peer

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from app.checkpoint import Checkpoint
    from app.picture import Pixels

POINTS = 5
"""At which a curve is looked at, to find the area under it."""
ROAD_SHARES = (0.1, 0.3, 0.5)
_BLUR = 10.0  # pixels
_GREY = 127.5
_BATCH = 16
_NOISE = 0.01


@dataclass(frozen=True)
class Areas:
    """Areas under the curves of one map.

    Attributes:
        log_odds: insertion's less deletion's, on the log-odds of the explained emotion. It is what the maps
            decompose, and a picture with a share of 0.2 counts as much as one with 0.8.
        share: the same on the emotion's probability, as RISE has it.
        insertion, deletion: the two areas on the log-odds.
    """

    log_odds: float
    share: float
    insertion: float
    deletion: float


@torch.no_grad()
def areas(
    checkpoint: Checkpoint,
    pixels: Pixels,
    emotion: int,
    relevance: NDArray[np.floating],
    points: int = POINTS,
) -> Areas:
    """Insertion and deletion of one map."""
    picture = torch.from_numpy(pixels).float()
    blurred, grey = _blurred(picture), torch.full_like(picture, _GREY)
    rank = _ranks(relevance)
    nodes, weights = np.polynomial.legendre.leggauss(points)  # on -1..1
    strongest = [rank < share * rank.numel() for share in (nodes + 1) / 2]
    pictures = [torch.where(mask, picture, blurred) for mask in strongest]
    pictures += [torch.where(mask, grey, picture) for mask in strongest]
    log_odds = _log_odds(checkpoint, pictures, emotion)
    share = 1 / (1 + np.exp(-log_odds))
    inserted, deleted = (float(weights @ curve) / 2 for curve in np.split(log_odds, 2))
    share_inserted, share_deleted = (float(weights @ curve) / 2 for curve in np.split(share, 2))
    return Areas(inserted - deleted, share_inserted - share_deleted, inserted, deleted)


@torch.no_grad()
def road(checkpoint: Checkpoint, pixels: Pixels, emotion: int, relevance: NDArray[np.floating]) -> float:
    """ROAD, least relevant first less most relevant first, on the log-odds; above 0 is better than nothing.

    Raises:
        PeerMissing: pytorch-grad-cam, whose imputation this is, is not installed.
    """
    impute = peer("pytorch_grad_cam.metrics.road").NoisyLinearImputer(noise=0.0)
    picture = torch.from_numpy(pixels).float() / 255
    rank = _ranks(relevance)
    noise = _NOISE * torch.randn(picture.shape, generator=torch.Generator().manual_seed(0))
    pictures = []
    for weakest in (True, False):
        for share in ROAD_SHARES:
            count = share * rank.numel()
            gone = rank >= rank.numel() - count if weakest else rank < count
            filled = impute(picture, (~gone).float())
            pictures.append((filled + noise * gone).clamp(0, 1) * 255)
    without_weakest, without_strongest = np.split(_log_odds(checkpoint, pictures, emotion), 2)
    return float((without_weakest - without_strongest).mean())


def _ranks(relevance: NDArray[np.floating]) -> torch.Tensor:
    """0 for the strongest pixel, 1 for the next, in ``[S, S]``."""
    order = np.argsort(-relevance.ravel(), kind="stable")
    rank = np.empty(order.size, np.int64)
    rank[order] = np.arange(order.size)
    return torch.from_numpy(rank.reshape(relevance.shape))


def _log_odds(checkpoint: Checkpoint, pictures: list[torch.Tensor], emotion: int) -> NDArray[np.float64]:
    weight = next(checkpoint.network.parameters())
    rows = []
    for at in range(0, len(pictures), _BATCH):
        batch = torch.stack(pictures[at : at + _BATCH]).to(weight.device, weight.dtype)
        rows.append(checkpoint.network(batch.to(memory_format=torch.channels_last)).double().cpu())
    log = torch.log_softmax(torch.cat(rows) / checkpoint.card.temperature, dim=1)[:, emotion]
    return np.asarray(log - torch.log1p(-log.exp()))


def _blurred(picture: torch.Tensor) -> torch.Tensor:
    reach = int(3 * _BLUR)
    offsets = torch.arange(-reach, reach + 1).float()
    kernel = torch.exp(-(offsets**2) / (2 * _BLUR**2))
    across = (kernel / kernel.sum()).view(1, 1, 1, -1)
    padded = functional.pad(picture[:, None], (reach,) * 4, mode="reflect")
    return functional.conv2d(functional.conv2d(padded, across), across.transpose(2, 3))[:, 0]

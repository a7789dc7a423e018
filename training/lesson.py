"""One step of phase two: what it shows to the network, and what it minimises."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional

from training.head import channels_last, soft_cross_entropy

if TYPE_CHECKING:
    from torch import Tensor

    from training.inception import EmotionInception
    from training.phases import Job
    from training.pictures import Sample


def blended(inputs: Tensor, target: Tensor, strength: float) -> Sample:
    """Each picture with another of its batch shining through, and its target likewise."""
    if not strength:
        return inputs, target
    drawn = torch.distributions.Beta(strength, strength).sample().item()
    share = max(drawn, 1 - drawn)
    blended = share * inputs.float() + (1 - share) * inputs.flip(0).float()
    return blended, share * target + (1 - share) * target.flip(0)


def kept_features(network: EmotionInception, size: int) -> Tensor:
    """Dropout's factor of each feature for a whole batch, the same in every process and on every device."""
    return functional.dropout(torch.ones(size, network.head.in_features), network.dropout.p)


class Lesson(nn.Module):
    """What a step minimises, as a module, because that is what gradients can be averaged of.

    Args:
        job: whose network and imitation learn.
    """

    def __init__(self, job: Job) -> None:
        super().__init__()
        self.job = job
        self.network = job.network
        self.imitation = job.imitation

    def forward(self, inputs: Tensor, target: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
        """The loss, and the cross-entropy in it.

        Args:
            inputs: pictures ``[N, 3, H, W]``.
            target: distributions ``[N, K]``.
            kept: factors of their pooled features ``[N, F]``.
        """
        job = self.job
        pictures = channels_last(inputs, job.device)
        with job.autocast():
            features, last = job.network.features_and_last(pictures)
            logits = job.network.head(features * kept.to(job.device))
            target = target.to(job.device)
            if job.teacher is None or job.imitation is None:
                cross_entropy = soft_cross_entropy(logits.float(), target)
                return cross_entropy, cross_entropy
            taught = job.teacher(pictures)
            if share := job.settings.teacher_share:
                target = share * job.teacher.opinion(taught) + (1 - share) * target
            cross_entropy = soft_cross_entropy(logits.float(), target)
            distance = job.imitation(last, taught)
        return cross_entropy + job.settings.teacher_weight * distance, cross_entropy

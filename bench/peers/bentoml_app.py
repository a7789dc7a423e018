"""BentoML: one service decodes, another runs the model in batches.

Two services, as its guide to adaptive batching shows for pictures ("Handle multiple parameters" in
docs/source/get-started/adaptive-batching.rst of its repository): a batchable method gets arrays of one
shape, and photos have many. The dispatcher learns by itself how long to wait; ``max_latency_ms`` only bounds
the wait and refuses what would exceed it, so it is raised to the timeout, as "Error handling" there advises.

By default the first service renews its connections to the second after 100 requests, and whatever is under
way then fails (issue 5540 of its repository); ours need not be renewed.
"""

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated

import bentoml  # type: ignore[import-not-found]
import numpy as np
from bentoml.validators import ContentType  # type: ignore[import-not-found]

from bench.peers import shared

TRAFFIC = {"timeout": shared.TIMEOUT_SECONDS}
CONNECTION = {"max_requests": 1_000_000, "max_age": 86_400.0}


@bentoml.service(traffic=TRAFFIC, runner_connection=CONNECTION)
class Classifier:
    """The model."""

    def __init__(self) -> None:
        self.checkpoint = shared.load_checkpoint()
        shared.warm_up(self.checkpoint)

    @bentoml.api(  # type: ignore[untyped-decorator]
        batchable=True, max_batch_size=shared.MAX_BATCH, max_latency_ms=shared.TIMEOUT_SECONDS * 1000
    )
    def classify(self, pictures: np.ndarray) -> list[shared.Answer]:
        """``uint8 [N, 3, S, S]``."""
        return shared.classify(self.checkpoint, pictures)


@bentoml.service(traffic=TRAFFIC)
class Emotions:
    """What clients talk to."""

    classifier = bentoml.depends(Classifier)

    def __init__(self) -> None:
        self.pool = ThreadPoolExecutor(os.cpu_count())

    @bentoml.api  # type: ignore[untyped-decorator]
    async def predict(self, picture: Annotated[Path, ContentType("image/jpeg")], /) -> shared.Answer:
        """One picture; a positional parameter is the body itself."""
        loop = asyncio.get_running_loop()
        pixels = await loop.run_in_executor(self.pool, lambda: shared.as_input(picture.read_bytes()))
        answers: list[shared.Answer] = await self.classifier.to_async.classify(pixels[None])
        return answers[0]

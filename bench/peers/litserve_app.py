"""LitServe; ``BENCH_PORT`` chooses the port.

Set up as LitServe's own image benchmark sets it up for a CPU (tests/parity_fastapi/ls-server.py of its
repository): batches of 8 gathered for 10 ms, the fast queue, and decoding in a pool of as many threads as
there are processors. Only the number of workers is the default, one, instead of two: each has as many torch
threads as there are processors, and two such workers were slower by a third.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated

import litserve  # type: ignore[import-not-found]
from fastapi import Body

from app.picture import Pixels
from bench.peers import shared

Jpeg = Annotated[bytes, Body(media_type="image/jpeg")]


class Emotions(litserve.LitAPI):  # type: ignore[misc] # an untyped base
    """The model."""

    def setup(self, device: str) -> None:  # noqa: ARG002 - the caller names it
        """Once in each worker."""
        self.checkpoint = shared.load_checkpoint()
        self.pool = ThreadPoolExecutor(os.cpu_count())
        shared.warm_up(self.checkpoint)

    def decode_request(self, request: Jpeg) -> bytes:  # the annotation makes the route: no string
        """The body is the JPEG itself."""
        return request

    def batch(self, inputs: list[bytes]) -> list[Pixels]:
        """Decode them all."""
        return list(self.pool.map(shared.as_input, inputs))

    def predict(self, x: list[Pixels]) -> list[shared.Answer]:
        """A batch."""
        return shared.classify(self.checkpoint, x)

    def unbatch(self, output: list[shared.Answer]) -> list[shared.Answer]:
        """They are apart already."""
        return output

    def encode_response(self, output: shared.Answer) -> shared.Answer:
        """JSON follows by itself."""
        return output


if __name__ == "__main__":
    litserve.LitServer(
        Emotions(max_batch_size=shared.MAX_BATCH, batch_timeout=0.01),
        accelerator="cpu",
        timeout=shared.TIMEOUT_SECONDS,
        fast_queue=True,
    ).run(
        host="127.0.0.1",
        port=int(os.environ["BENCH_PORT"]),
        log_level="warning",
        generate_client_file=False,
    )

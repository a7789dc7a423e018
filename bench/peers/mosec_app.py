"""mosec: one process decodes, another runs the model; ``MOSEC_PORT`` chooses the port.

The stages are those of mosec's own image example (examples/resnet50_server_msgpack.py of its repository):
preprocessing apart from batched inference. That example has four processes for the one and two for the other;
here there is one of each, as on two processors they fill both (``BENCH_DECODERS`` chooses others). The wait
is mosec's default, 10 ms.
"""

from __future__ import annotations

import os

import numpy as np
from mosec import Server, Worker  # type: ignore[import-not-found]

from app.picture import Pixels  # noqa: TC001 - mosec reads the annotations
from bench.peers import shared


class Decode(Worker):  # type: ignore[misc] # an untyped base
    """From JPEG to the network's input."""

    def deserialize(self, data: bytes) -> bytes:
        """The body is the JPEG itself."""
        return data

    def forward(self, data: bytes) -> Pixels:
        """One picture."""
        return shared.as_input(data)


class Classify(Worker):  # type: ignore[misc] # an untyped base
    """The model."""

    def __init__(self) -> None:
        super().__init__()
        self.checkpoint = shared.load_checkpoint()
        shared.warm_up(self.checkpoint)
        black = np.zeros((3, shared.SIDE, shared.SIDE), np.uint8)
        self.example = [black] * shared.MAX_BATCH  # mosec is ready only after it ran

    def forward(self, data: list[Pixels]) -> list[shared.Answer]:
        """A batch."""
        return shared.classify(self.checkpoint, data)


if __name__ == "__main__":
    server = Server()
    server.append_worker(
        Decode,
        num=int(os.environ.get("BENCH_DECODERS", "1")),
        timeout=shared.TIMEOUT_SECONDS,
        route="/predict",
    )
    server.append_worker(
        Classify,
        max_batch_size=shared.MAX_BATCH,
        max_wait_time=10,
        timeout=shared.TIMEOUT_SECONDS,
        route="/predict",
    )
    server.run()

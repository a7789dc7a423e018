"""The service with a saboteur inside: ``python -m tests.faults.saboteur SECONDS CHECKPOINT``.

Now and then the thread that owns the device dies, as no client could make it. It prints its port when it
listens.
"""

from __future__ import annotations

import ctypes
import random
import signal
import sys
import threading
import time
from pathlib import Path

import uvicorn

from app.main import create_app
from app.settings import Settings


def kill(thread: threading.Thread) -> None:
    """End a thread from outside, as nothing in the engine expects it."""
    if thread.ident is not None:
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(SystemExit))


def main() -> None:
    """Serve until SIGTERM; with 0 seconds between deaths, nobody dies."""
    seconds, checkpoint = float(sys.argv[1]), Path(sys.argv[2])
    settings = Settings(checkpoint=checkpoint, device="cpu", threads=1, hang_seconds=10)
    app = create_app(settings)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, access_log=False))

    def sabotage() -> None:
        chance = random.Random(0)  # noqa: S311 - nothing secret
        while not server.should_exit:
            time.sleep(seconds * chance.uniform(0.5, 1.5))
            kill(app.state.service.engine._crew.workers[0].thread)

    def announce() -> None:
        while not server.started:
            time.sleep(0.01)
        print(server.servers[0].sockets[0].getsockname()[1], flush=True)  # noqa: T201
        if seconds:
            sabotage()

    threading.Thread(target=announce, daemon=True).start()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # uvicorn raises it again when it is done
    server.run()


if __name__ == "__main__":
    main()

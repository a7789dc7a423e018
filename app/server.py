"""The server below the application: how uvicorn is set, and how its process ends when it must."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from typing import TYPE_CHECKING, Any

from app.connection import connection_class

if TYPE_CHECKING:
    from types import FrameType

    from app.metrics import Metrics
    from app.settings import Settings

FAILED = 1
LATER_SECONDS = 10.0
"""What a stop may take beyond `Settings.drain_seconds` before it is no longer waited for."""


def server_options(settings: Settings, metrics: Metrics) -> dict[str, Any]:
    """What uvicorn is told, by ``deepemotion serve`` and by the tests: its own defaults protect nobody.

    Args:
        settings: the limits.
        metrics: count the connections that never become a request.
    """
    return {
        "host": settings.host,
        "port": settings.port,
        "http": connection_class(settings, metrics),
        "ws": "none",
        "log_config": None,
        "log_level": settings.log_level,
        "access_log": False,  # the service writes its own line for each request
        "server_header": False,
        # By itself uvicorn believes any process of this machine about whom a request comes from.
        "proxy_headers": bool(settings.trusted_proxies),
        "forwarded_allow_ips": settings.trusted_proxies,
        "timeout_keep_alive": round(settings.keep_alive_seconds),
        "timeout_graceful_shutdown": max(1, round(settings.drain_seconds)),
    }


class Ending:
    """The end of a process that serves: status 0 after SIGTERM, and 1 if it had to give itself up.

    Args:
        settings: say how long what was accepted may take.
    """

    def __init__(self, settings: Settings) -> None:
        self._by_force = threading.Timer(settings.drain_seconds + LATER_SECONDS, os._exit, (FAILED,))
        self._by_force.daemon = True
        self._given_up = False

    def leave(self, _signal: int, _frame: FrameType | None) -> None:
        """Handle the signal that uvicorn raises again when it has finished what was accepted.

        The default would turn that orderly end into a death by signal.
        """
        sys.exit(0)

    def give_up(self) -> None:
        """Stop as SIGTERM does, but fail, so that whoever started the process starts another."""
        self._given_up = True
        self._by_force.start()
        signal.raise_signal(signal.SIGTERM)

    def fail_if_given_up(self) -> None:
        """End here and now, since a thread that hangs may keep the interpreter from ending."""
        if self._given_up:
            logging.shutdown()
            os._exit(FAILED)

"""Why the engine did not answer."""

from __future__ import annotations


class EngineError(Exception):
    """A request that the engine took or refused without a result."""


class QueueFull(EngineError):
    """As many requests wait as may wait, or as can be answered in time; nothing was accepted.

    Attributes:
        retry_after: seconds after which the queue will have moved, by the pace of the last batches.
    """

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class DeadlinePassed(EngineError):
    """The request's deadline passed before its result was there."""


class EngineStopped(EngineError):
    """The engine is not running: it has not started yet, is draining, or waits for its device."""


class DeviceLost(EngineError):
    """The device's thread died or hung while it worked on this picture."""


class ModelFailed(EngineError):
    """The network failed on this picture, or gave something that is not a number."""

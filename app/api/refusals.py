"""Why a request is refused before the engine sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class ApiError(Exception):
    """A request that is refused before the engine sees it; the message says why."""


class UnsupportedMediaType(ApiError):
    """The body is neither a multipart form nor a raw picture."""


class BodyTooLarge(ApiError):
    """The body has, or announces, more bytes than are accepted."""


class BodyTooSlow(ApiError):
    """The body did not arrive in time."""


class BadMultipart(ApiError):
    """The body is not a multipart form, though its content type says so."""


class MissingFile(ApiError):
    """The form has no picture in the field where it is expected."""


class TooManyFiles(ApiError):
    """The form has more than one file."""


class UnknownChoice(ApiError):
    """A query parameter is none of the allowed values. The given value is not repeated."""

    def __init__(self, what: str, allowed: Iterable[str]) -> None:
        self.allowed = tuple(allowed)
        super().__init__(f"there is no such {what}; choose one of: {', '.join(self.allowed)}")


class UnknownEmotion(UnknownChoice):
    """The emotion is not one that the checkpoint knows."""


class UnknownView(UnknownChoice):
    """The view is not one that can be drawn."""


class UnknownLayer(UnknownChoice):
    """The layer is not one that the checkpoint shows."""

    def __init__(self, allowed: Iterable[str]) -> None:
        super().__init__("layer", allowed)
        if not self.allowed:
            self.args = ("this checkpoint shows no inner layers; leave layer out",)


class BadInference(ApiError):
    """A request of the Open Inference Protocol that is not as the protocol or the model's metadata say."""


class UnknownModel(ApiError):
    """The Open Inference Protocol was asked for a model, or a version of it, that is not served."""


class Contradiction(ApiError):
    """Two parameters that exclude each other."""


class Busy(ApiError):
    """Uploads already take all the memory, or all the places before the decoder, that they may."""


class TooManyConnections(ApiError):
    """There are as many connections as there may be; the client has not been asked what it wants."""


class NotReady(ApiError):
    """The engine takes nothing: it is warming up, stopping, or has failed."""


class BeyondRepair(ApiError):
    """Threads of the device hang that nothing within the process can end."""


class KeyNeeded(ApiError):
    """The API key is missing or none that is known."""


class TooOften(ApiError):
    """The client has asked for as much as it may.

    Attributes:
        retry_after: seconds until there is room for what it asked.
    """

    def __init__(self, retry_after: float) -> None:
        self.retry_after = retry_after
        super().__init__("you have asked for as much as one client may in this time")


class NotAllowed(ApiError):
    """The admin key is missing or wrong."""


class AdminDisabled(ApiError):
    """No admin key is configured, so nobody can have the right one."""

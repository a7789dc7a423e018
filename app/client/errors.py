"""Why there is no answer."""

from __future__ import annotations

from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx

PROBLEM_PREFIX = "urn:deepemotion:problem:"


class ClientError(Exception):
    """A request that was not answered; one of the classes below."""


class Unreachable(ClientError):
    """The service could not be reached, or the connection broke, as often as it was tried."""


class DeadlinePassed(ClientError):
    """The answer did not come within the client's timeout; the cause is what went wrong last, if anything."""


class UnexpectedAnswer(ClientError):
    """Something answered, but not this service: the address may be wrong, or the version."""


class ServiceError(ClientError):
    """The service, or a proxy before it, answered with an error.

    Attributes:
        status: HTTP status code.
        slug: names the kind of problem, such as ``broken-picture``; None if it was not the service's own.
        title: the kind of problem in words.
        detail: what went wrong this time.
        remedy: what the caller can do; may be empty.
        request_id: quote it in a report; may be empty.
        allowed: the values that a parameter may have, where that was the problem.
        retry_after: the Retry-After header as it was sent; None if it was not.
    """

    def __init__(
        self,
        status: int,
        *,
        slug: str | None,
        title: str,
        detail: str,
        remedy: str = "",
        request_id: str = "",
        allowed: tuple[str, ...] = (),
        retry_after: str | None = None,
    ) -> None:
        what = f"{status} {title}: {detail}" if detail else f"{status} {title}"
        super().__init__(f"{what} ({remedy})" if remedy else what)
        self.status = status
        self.slug = slug
        self.title = title
        self.detail = detail
        self.remedy = remedy
        self.request_id = request_id
        self.allowed = allowed
        self.retry_after = retry_after

    def __reduce__(self) -> tuple[Callable[..., ServiceError], tuple[int]]:
        """For pickle, which knows no keyword arguments: an outcome may come from another process."""
        fields = {name: value for name, value in vars(self).items() if name != "status"}
        return partial(ServiceError, **fields), (self.status,)

    @classmethod
    def of(cls, response: httpx.Response) -> ServiceError:
        """The error of a response that is no success; whatever sent it."""
        problem = _problem(response)
        kind = str(problem.get("type", ""))
        moved = f"moved to {response.headers['Location']}" if response.has_redirect_location else ""
        return cls(
            response.status_code,
            slug=kind.removeprefix(PROBLEM_PREFIX) if kind.startswith(PROBLEM_PREFIX) else None,
            title=str(problem.get("title") or response.reason_phrase or _phrase(response.status_code)),
            detail=str(problem.get("detail", moved)),
            remedy=str(problem.get("remedy", "")),
            request_id=str(problem.get("request_id") or response.headers.get("X-Request-ID", "")),
            allowed=tuple(map(str, problem.get("allowed") or ())),
            retry_after=response.headers.get("Retry-After"),
        )


def _problem(response: httpx.Response) -> dict[str, Any]:
    """The problem document (RFC 9457) in a response; empty if there is none."""
    if response.headers.get("Content-Type", "").partition(";")[0].strip() != "application/problem+json":
        return {}
    try:
        problem = response.json()
    except ValueError:
        return {}
    return problem if isinstance(problem, dict) else {}


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "unknown status"

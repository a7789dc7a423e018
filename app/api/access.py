"""Who asks, and whether they may: API keys where a file of them is configured, else everybody."""

import hmac
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from app.api.deps import AnyService, Service
from app.api.refusals import AdminDisabled, KeyNeeded, NotAllowed, TooOften
from app.keys import KeysError

ACCESS_ERRORS: tuple[type[Exception], ...] = (KeyNeeded, KeysError)
"""What a route may raise that depends on `identified`."""

LIMITED_ERRORS = (*ACCESS_ERRORS, TooOften)
"""The same of a route that takes pictures, and is limited by `app.api.rates`."""

API_KEY = HTTPBearer(
    auto_error=False, scheme_name="ApiKey", description="an API key, if the service asks for one"
)
_ADMIN = HTTPBearer(
    auto_error=False, scheme_name="AdminKey", description="the service's DEEPEMOTION_ADMIN_KEY"
)


async def identified(
    request: Request,
    service: AnyService,
    given: Annotated[HTTPAuthorizationCredentials | None, Depends(API_KEY)],
) -> None:
    """Let nobody pass without a key, if there are any, and note for the log whose it is.

    Raises:
        KeyNeeded: no key was sent, or one that is not listed.
        KeysError: the file of keys cannot be read now.
    """
    if service.keys is None:
        return
    owner = service.keys.owner(given.credentials) if given is not None else None
    if owner is None:
        raise KeyNeeded("the API key is missing or not known here")
    request.state.key = owner


async def admin(
    service: AnyService, given: Annotated[HTTPAuthorizationCredentials | None, Depends(_ADMIN)]
) -> None:
    """Let nobody pass but who sends the admin key.

    Raises:
        AdminDisabled: there is none.
        NotAllowed: none was sent, or another.
    """
    _check_admin(service, given)


async def metrics_reader(
    service: AnyService, given: Annotated[HTTPAuthorizationCredentials | None, Depends(_ADMIN)]
) -> None:
    """Let everybody pass, or only who sends the admin key, as the settings say.

    Raises:
        NotAllowed: it is wanted, and none was sent, or another.
    """
    if service.settings.metrics_need_admin_key:
        _check_admin(service, given)


def _check_admin(service: Service, given: HTTPAuthorizationCredentials | None) -> None:
    key = service.settings.admin_key
    if key is None:
        raise AdminDisabled("no admin key is configured, so nobody may do this over HTTP")
    sent = given.credentials if given is not None else ""
    if not hmac.compare_digest(sent.encode(), key.get_secret_value().encode()):
        raise NotAllowed("the admin key is missing or wrong")

"""Every error that a client can meet, in one table: its status, its name and what the client can do.

How an error is sent and documented is in `app.api.problems`.
"""

from __future__ import annotations

from dataclasses import dataclass

from fastapi.exceptions import RequestValidationError

from app.api.refusals import (
    AdminDisabled,
    BadInference,
    BadMultipart,
    BeyondRepair,
    BodyTooLarge,
    BodyTooSlow,
    Busy,
    Contradiction,
    KeyNeeded,
    MissingFile,
    NotAllowed,
    NotReady,
    TooManyConnections,
    TooManyFiles,
    TooOften,
    UnknownEmotion,
    UnknownLayer,
    UnknownModel,
    UnknownView,
    UnsupportedMediaType,
)
from app.checkpoint import CheckpointError
from app.engine import DeadlinePassed, DeviceLost, EngineStopped, ModelFailed, QueueFull
from app.keys import KeysError
from app.picture import BrokenPicture, EmptyPicture, TooManyPixels, UnsupportedPicture


@dataclass(frozen=True)
class Kind:
    """One row of the table.

    Attributes:
        status: HTTP status code.
        slug: last part of the problem's type, ``urn:deepemotion:problem:<slug>``.
        title: the kind of problem, the same for every occurrence.
        remedy: what the caller can do.
        example: a detail as the documentation shows it.
        fixed_detail: always say `example`, because the error's own message may tell of our inside.
        retry_after: seconds for the Retry-After header where the error has none of its own.
    """

    status: int
    slug: str
    title: str
    remedy: str
    example: str
    fixed_detail: bool = False
    retry_after: float | None = None


_ONE_PICTURE = (
    "send the picture in the multipart field `file`, with a filename, or, but for a batch, as the body itself"
)
_LATER = "wait as many seconds as Retry-After says, then send the request again"
_REPORT = "try again; if it happens again, report it with the request id"

TABLE: dict[type[Exception], Kind] = {
    UnsupportedMediaType: Kind(
        415,
        "unsupported-media-type",
        "The body has the wrong content type",
        f"{_ONE_PICTURE}, with content type image/* or application/octet-stream",
        "the content type is neither multipart/form-data nor that of a picture",
    ),
    BodyTooLarge: Kind(
        413,
        "body-too-large",
        "The upload is too large",
        "send a smaller file, or fewer of them: the network sees a picture much reduced anyway",
        "the body has more than 20,971,520 bytes",
    ),
    BodyTooSlow: Kind(
        408,
        "body-too-slow",
        "The upload took too long",
        "send it again over a faster connection, or send a smaller file",
        "the body did not arrive within 30 s",
    ),
    BadMultipart: Kind(
        400,
        "bad-multipart",
        "The form cannot be read",
        "let an HTTP library build the form, its boundary and its content type; give a picture a filename, "
        "and send at most 8 other fields of 4 KiB",
        "the multipart form cannot be read: it ends before its last boundary",
    ),
    MissingFile: Kind(
        422,
        "missing-file",
        "The form has no picture",
        _ONE_PICTURE,
        "the form has no file in the field `file`",
    ),
    TooManyFiles: Kind(
        422,
        "too-many-files",
        "The form has too many files",
        "send one request for each picture, or several forms to /v1/predict/batch",
        "the form has more than one file",
    ),
    EmptyPicture: Kind(
        400,
        "empty-picture",
        "The picture is empty",
        _ONE_PICTURE,
        "the picture is empty (0 bytes)",
    ),
    UnsupportedPicture: Kind(
        415,
        "unsupported-picture",
        "The bytes are not a picture that is read",
        "convert the picture to JPEG, PNG or WebP: HEIC, AVIF, GIF and TIFF are not read",
        "the bytes are not a JPEG, PNG or WebP picture",
    ),
    TooManyPixels: Kind(
        413,
        "too-many-pixels",
        "The picture has too many pixels",
        "make the picture smaller: the network sees it much reduced anyway",
        "the picture has 20000 x 10000 pixels; at most 50,000,000 are accepted",
    ),
    BrokenPicture: Kind(
        422,
        "broken-picture",
        "The picture is damaged",
        "check that the file opens in a viewer and was sent whole",
        "the JPEG picture is truncated or damaged",
    ),
    UnknownEmotion: Kind(
        422,
        "unknown-emotion",
        "The checkpoint does not know this emotion",
        "choose one that is allowed, or leave the parameter out to explain the dominant emotion",
        "there is no such emotion; choose one of: anger, disgust, fear, joy, sadness, surprise, neutral",
    ),
    UnknownView: Kind(
        422,
        "unknown-view",
        "There is no such view",
        "choose one that is allowed, or leave the parameter out",
        "there is no such view; choose one of: overlay, heatmap, dream, pair, sheet",
    ),
    UnknownLayer: Kind(
        422,
        "unknown-layer",
        "There is no such layer",
        "choose one that is allowed, or leave the parameter out to explain an emotion",
        "there is no such layer; choose one of: Conv2d_1a_3x3, Conv2d_2a_3x3, Conv2d_2b_3x3, maxpool1, "
        "Conv2d_3b_1x1, Conv2d_4a_3x3, maxpool2, Mixed_5b, Mixed_5c, Mixed_5d, Mixed_6a, Mixed_6b, Mixed_6c, "
        "Mixed_6d, Mixed_6e, Mixed_7a, Mixed_7b, Mixed_7c",
    ),
    KeyNeeded: Kind(
        401,
        "key-needed",
        "An API key is needed",
        "send yours as a bearer token: Authorization: Bearer <key>; whoever runs the service gives them out",
        "the API key is missing or not known here",
    ),
    TooOften: Kind(
        429,
        "too-often",
        "You have asked too much in too short a time",
        f"{_LATER}; an explanation counts as many predictions",
        "you have asked for as much as one client may in this time",
        retry_after=1.0,
    ),
    KeysError: Kind(
        503,
        "keys-unreadable",
        "The service cannot tell who may ask",
        f"{_LATER}; if it goes on, tell whoever runs the service",
        "the file of API keys cannot be used at the moment",
        fixed_detail=True,
        retry_after=5.0,
    ),
    NotAllowed: Kind(
        401,
        "not-allowed",
        "This is for the operator alone",
        "send the admin key as a bearer token: Authorization: Bearer <DEEPEMOTION_ADMIN_KEY>",
        "the admin key is missing or wrong",
    ),
    AdminDisabled: Kind(
        403,
        "admin-disabled",
        "The service has no admin key",
        "set DEEPEMOTION_ADMIN_KEY and start the service again; without one, SIGHUP to its process reloads",
        "no admin key is configured, so nobody may do this over HTTP",
    ),
    CheckpointError: Kind(
        422,
        "checkpoint-refused",
        "The new checkpoint is refused, and the old one goes on answering",
        "put a checkpoint that can be trusted in the folder, list it in SHA256SUMS, and ask again",
        "SHA256SUMS does not list emotion6.pt",
    ),
    BadInference: Kind(
        400,
        "bad-inference",
        "The inference request cannot be read",
        "compare it with GET /v2/models/{model}, which names the inputs and outputs",
        "the input `pixels` must be UINT8 of shape [n, 224, 224, 3]",
    ),
    UnknownModel: Kind(
        404,
        "unknown-model",
        "There is no such model",
        "GET /v1/model tells the name and version of the one that is served",
        "the model that is served is emotion6, version 4",
    ),
    Contradiction: Kind(
        422,
        "contradiction",
        "Two parameters exclude each other",
        "leave one of them out",
        "a sheet shows all emotions, so none can be chosen",
    ),
    RequestValidationError: Kind(
        422,
        "invalid-request",
        "A parameter is not valid",
        "compare the request with the documentation at /docs",
        "query.view: String should have at most 64 characters",
    ),
    QueueFull: Kind(
        503,
        "queue-full",
        "Too many requests are waiting",
        _LATER,
        "as many predictions are under way as may be: 128",
        retry_after=1.0,
    ),
    Busy: Kind(
        503,
        "busy",
        "Too many uploads are held",
        _LATER,
        "the uploads that are held already fill their memory",
        retry_after=1.0,
    ),
    TooManyConnections: Kind(
        503,
        "too-many-connections",
        "Too many connections are open",
        _LATER,
        "the service has as many connections as it takes",
        retry_after=1.0,
    ),
    MemoryError: Kind(
        503,
        "out-of-memory",
        "There is not enough memory for this picture now",
        f"{_LATER}, or send a smaller picture",
        "there was not enough memory to decode or draw the picture",
        fixed_detail=True,
        retry_after=5.0,
    ),
    NotReady: Kind(
        503,
        "not-ready",
        "The service takes no pictures now",
        _LATER,
        "the network is warming up, or the service is stopping",
        retry_after=2.0,
    ),
    BeyondRepair: Kind(
        503,
        "beyond-repair",
        "The process must be restarted",
        "restart the process, and look at the device if this happens again",
        "the device has hung several times, and only a new process can free it",
        retry_after=30.0,
    ),
    EngineStopped: Kind(
        503,
        "stopping",
        "The service is stopping",
        f"{_LATER}: another instance will answer",
        "the service is stopping",
        fixed_detail=True,
        retry_after=5.0,
    ),
    DeviceLost: Kind(
        503,
        "device-lost",
        "The device failed while it worked on this picture",
        _LATER,
        "the device's thread died or hung; it is being replaced",
        fixed_detail=True,
        retry_after=2.0,
    ),
    DeadlinePassed: Kind(
        504,
        "deadline-passed",
        "The answer would have come too late",
        "send the request again when the service is less busy, or allow more time",
        "the deadline passed before the picture was answered",
    ),
    ModelFailed: Kind(
        500,
        "model-failed",
        "The network failed on this picture",
        _REPORT,
        "the network failed on this picture",
        fixed_detail=True,
    ),
    Exception: Kind(
        500,
        "internal",
        "The service failed",
        _REPORT,
        "something went wrong on our side",
        fixed_detail=True,
    ),
}


def kind_of(error_class: type[BaseException]) -> Kind:
    """The row of a class, or of its nearest base that has one."""
    for base in error_class.__mro__:
        if issubclass(base, Exception) and base in TABLE:
            return TABLE[base]
    return TABLE[Exception]

"""What FastAPI cannot tell by itself: the bodies that the routes read, and the shape of a problem."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi.openapi.utils import get_openapi

from app.api.examples import ANSWERS
from app.api.middleware import ID_PATTERN
from app.api.schemas import ExplanationResponse, PredictionResponse, Problem, ReloadRequest
from app.api.tensors import InferRequest
from app.api.upload import FIELD

if TYPE_CHECKING:
    from fastapi import FastAPI

DESCRIPTION = """\
Which emotions a picture evokes in the people who look at it, and which parts of it do so.

Send one JPEG, PNG or WebP picture, either in the field `file` of a multipart form or as the body itself.
Every error is an `application/problem+json` (RFC 9457) that says what you can do. Every answer carries
`X-Request-ID`; send your own, of 1 to 64 letters, digits, `.`, `_` or `-`, and it is kept.
"""


def _bytes_of(media_type: str) -> dict[str, Any]:
    return {"schema": {"type": "string", "contentMediaType": media_type}}


PICTURE_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "one picture",
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": [FIELD],
                    "properties": {
                        FIELD: {
                            "type": "string",
                            "contentMediaType": "application/octet-stream",
                            "description": "a JPEG, PNG or WebP file",
                        }
                    },
                }
            },
            "image/jpeg": _bytes_of("image/jpeg"),
            "image/png": _bytes_of("image/png"),
            "image/webp": _bytes_of("image/webp"),
            "application/octet-stream": _bytes_of("application/octet-stream"),
        },
    }
}

PICTURES_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "several pictures",
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": [FIELD],
                    "properties": {
                        FIELD: {
                            "type": "array",
                            "minItems": 1,
                            "items": {"type": "string", "contentMediaType": "application/octet-stream"},
                            "description": "JPEG, PNG or WebP files, each in a field of this name",
                        }
                    },
                }
            }
        },
    }
}

REQUEST_ID_HEADER: dict[str, Any] = {
    "X-Request-ID": {
        "description": f"the client's own if it is `{ID_PATTERN}`, else a new one",
        "schema": {"type": "string"},
    }
}
TIMING_HEADER: dict[str, Any] = {
    "Server-Timing": {
        "description": "milliseconds spent on each part of the answer",
        "schema": {"type": "string"},
        "example": "decode;dur=6.1, queue;dur=0.2, infer;dur=41.0",
    }
}


_ALWAYS_LOCKED = frozenset({"/v1/model/reload"})


def install(app: FastAPI) -> None:
    """Have the application describe itself with these additions."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = get_openapi(
                title=app.title, version=app.version, description=app.description, routes=app.routes
            )
            schemas = schema.setdefault("components", {}).setdefault("schemas", {})
            # Those that no route takes or returns alone, and those whose example has a null, which FastAPI
            # drops.
            for model in (Problem, ExplanationResponse, PredictionResponse, InferRequest, ReloadRequest):
                described = model.model_json_schema(ref_template="#/components/schemas/{model}")
                schemas.update(described.pop("$defs", {}))
                schemas[model.__name__] = described
            for path, methods in schema["paths"].items():
                for method, operation in methods.items():
                    _show_answers(operation, ANSWERS.get(f"{method.upper()} {path}", {}))
                    _drop_frameworks_refusal(operation)
                    if path not in _ALWAYS_LOCKED and "security" in operation:
                        operation["security"].append({})  # a key where the operator has asked for one
            for unused in ("HTTPValidationError", "ValidationError"):
                schemas.pop(unused, None)
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign] # the way that FastAPI documents


def _show_answers(operation: dict[str, Any], answers: dict[str, tuple[str, Any]]) -> None:
    if answers:
        operation["responses"]["200"]["content"]["application/json"]["examples"] = {
            name: {"summary": summary, "value": value} for name, (summary, value) in answers.items()
        }


def _drop_frameworks_refusal(operation: dict[str, Any]) -> None:
    """FastAPI adds its own 422 to each route with parameters, also where any text is valid."""
    refusal = operation["responses"].get("422", {}).get("content", {}).get("application/json", {})
    if refusal.get("schema") == {"$ref": "#/components/schemas/HTTPValidationError"}:
        del operation["responses"]["422"]

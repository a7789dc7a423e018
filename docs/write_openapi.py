"""Writes what the service says of itself: ``docs/openapi.json`` and, out of it, ``docs/api.md``.

Run ``python docs/write_openapi.py`` in the repository's folder whenever a route, an answer or an error
changes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.api.errors import TABLE
from app.main import create_app
from app.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

SCHEMA = Path("docs/openapi.json")
PAGE = Path("docs/api.md")

HEAD = """\
# The API

*`python docs/write_openapi.py` writes this page, out of [openapi.json](openapi.json), which a running service
also answers at `/openapi.json`. The page at `/docs` of the service shows the same, and sends requests.*

A picture is a JPEG, PNG or WebP file, sent in the field `file` of a multipart form or as the body itself.
`/predict` and `/explain` are there also below `/v1`. Below `/v2` is the
[Open Inference Protocol](https://github.com/kserve/open-inference-protocol).

## Requests
"""
PROBLEMS = """
## Problems

Whatever cannot be answered gets an `application/problem+json`
([RFC 9457](https://www.rfc-editor.org/rfc/rfc9457)): `type` is `urn:deepemotion:problem:` and the name below,
`title` says what kind of problem it is, `detail` what went wrong this time, `remedy` what you can do, and
`request_id` is to be quoted in a report. `allowed` lists the values of a parameter that has only some. Below
`/v2` the same comes as `{"error": "title: detail; remedy"}`.

Wait as long as `Retry-After` says where it is sent. A path that is not there is `not-found` (404), another
method than those in `Allow` is `method-not-allowed` (405).

| status | name | what it means | what you can do | `Retry-After` |
|---|---|---|---|---|
"""

_LIMITS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "maxLength": "of characters ≤"}


def page(schema: dict[str, Any]) -> str:
    """The page, in Markdown."""
    lines = [
        line
        for path, methods in schema["paths"].items()
        for method, operation in methods.items()
        for line in _operation(f"{method.upper()} {path}", operation, schema["components"])
    ]
    rows = [
        f"| {kind.status} | `{kind.slug}` | {kind.title} | {_cell(kind.remedy)} | "
        f"{'' if kind.retry_after is None else f'{kind.retry_after:g} s or more'} |"
        for kind in sorted(TABLE.values(), key=lambda kind: (kind.status, kind.slug))
    ]
    return HEAD + "\n".join(lines) + "\n" + PROBLEMS + "\n".join(rows) + "\n"


def _operation(name: str, operation: dict[str, Any], components: dict[str, Any]) -> Iterator[str]:
    yield f"\n### `{name}`\n"
    summary = operation["summary"]
    end = "" if summary.endswith("?") else "."
    yield f"{summary}{end} {operation['description'].partition('Raises:')[0].strip()}\n"
    keys = [name for each in operation.get("security", ()) for name in each]
    if told := [components["securitySchemes"][name]["description"] for name in keys]:
        yield f"Bearer token in `Authorization`: {' or '.join(told)}.\n"
    if body := operation.get("requestBody"):
        yield f"Body: {', '.join(f'`{kind}`' for kind in body['content'])}.\n"
    if parameters := [each for each in operation.get("parameters", ()) if each["in"] != "path"]:
        yield "| parameter | in | values | |\n|---|---|---|---|"
        for each in parameters:
            told = _cell(each.get("description", ""))
            yield f"| `{each['name']}` | {each['in']} | {_values(each['schema'])} | {told} |"
        yield ""
    answer = operation["responses"]["200"]
    shapes = [_shape(kind, content) for kind, content in answer["content"].items()]
    yield f"Answer: {' or '.join(shapes)}.\n"
    if headers := answer.get("headers"):
        yield "| header of the answer | |\n|---|---|"
        yield from (f"| `{header}` | {_cell(told['description'])} |" for header, told in headers.items())
        yield ""
    refusals = [
        f"{status} ({', '.join(f'`{name}`' for name in _names(said))})"
        for status, said in sorted(operation["responses"].items())
        if status != "200"
    ]
    yield f"Refusals: {', '.join(refusals)}."


def _names(said: dict[str, Any]) -> list[str]:
    """Of the problems with a status."""
    return [name for content in said["content"].values() for name in content["examples"]]


def _shape(kind: str, content: dict[str, Any]) -> str:
    _, found, name = content.get("schema", {}).get("$ref", "").rpartition("/")
    return f"`{kind}` ({name})" if found else f"`{kind}`"


def _values(schema: dict[str, Any]) -> str:
    """Type, limits and default, in a few words."""
    chosen = next((each for each in schema.get("anyOf", ()) if each.get("type") != "null"), schema)
    words = ", ".join(f"`{each}`" for each in chosen.get("enum", ())) or chosen["type"]
    for key, sign in _LIMITS.items():
        if key in chosen and "enum" not in chosen:
            words += f" {sign} {chosen[key]:g}"
    return (
        words if schema.get("default") is None else f"{words}; `{json.dumps(schema['default'])}` by default"
    )


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "\\<")


def main() -> None:
    """Describe the service and write it down."""
    schema = create_app(Settings(device="cpu")).openapi()
    SCHEMA.write_text(json.dumps(schema, indent=1, ensure_ascii=False) + "\n", "utf-8")
    PAGE.write_text(page(schema), "utf-8")


if __name__ == "__main__":
    main()

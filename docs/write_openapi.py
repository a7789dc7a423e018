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
from app.settings import MEBIBYTE, Settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

SCHEMA = Path("docs/openapi.json")
PAGE = Path("docs/api.md")

HEAD = """\
# The API

*`python docs/write_openapi.py` writes this page, out of [openapi.json](openapi.json), which a running service
also answers at `/openapi.json`. The page at `/docs` of the service shows the same, and sends requests.*

A picture is a JPEG, PNG or WebP file, sent with a filename in the field `file` of a multipart form, or as the
body itself. A form may have eight other fields of 4 KiB, which are not looked at.
`/predict` and `/explain` are there also below `/v1`. Below `/v2` is the
[Open Inference Protocol](https://github.com/kserve/open-inference-protocol).

## From a program

From Python, with [httpx](https://www.python-httpx.org) (`app.client` does the same, and comes again when it
is told to):

```python
import httpx

with open("app/web/samples/chelsea.jpg", "rb") as photo:
    answer = httpx.post("http://localhost:8000/v1/predict", files={"file": photo}, timeout=60)
said = answer.json()
if answer.is_success:
    print(said["dominant"]["emotion"], said["abstained"])
else:
    print(said["title"], said["detail"], said["remedy"], answer.headers.get("Retry-After"))
```

From JavaScript, here Node's; in a page, `photo` is a file that was chosen or dropped:

```js
import { openAsBlob } from "node:fs";

const photo = await openAsBlob("app/web/samples/chelsea.jpg");
const form = new FormData();
form.append("file", photo);
const answer = await fetch("http://localhost:8000/v1/explain", {
  method: "POST",
  body: form,
  headers: { Accept: "application/json" }, // without it the answer is a PNG: await answer.blob()
});
const said = await answer.json();
if (answer.ok) console.log(said.explanations[0].emotion, said.abstained_because);
else console.log(said.title, said.detail, said.remedy, answer.headers.get("Retry-After"));
```

`/explain` answers a PNG unless `Accept` likes `application/json` better, by its qualities: `*/*` and
`application/json, text/plain, */*`, which axios sends by itself, get the PNG. A page of another site may ask
only if the operator has named that site, by `DEEPEMOTION_CORS_ORIGINS='["https://example.org"]'`; then it may
read the headers of the answer, too. A service that wants keys wants `Authorization: Bearer <key>` with each
request.

The PNG's text chunks say what its headers say, each by the header's name without `X-`: `DeepEmotion-Emotion`,
`DeepEmotion-Abstained` and so on. `DeepEmotion-Model-SHA256` is the checkpoint's digest.

## The Open Inference Protocol

`/v2/models/{model_name}/versions/{model_version}`, and `/ready` and `/infer` below it, are the routes below
`/v2/models/{model_name}` for one version; any other than the one that is served is `unknown-model`.

Triton's binary form is read: the body is JSON, in which the input has no `data` but
`"parameters": {"binary_data_size": …}`, and the data follow it; `Inference-Header-Content-Length` says how
many bytes the JSON has. Each file of `image` comes after its length in four bytes, little-endian; `pixels`
are levels of 0 to 255, one byte each. The answer is always JSON.

## Requests
"""
ANSWERS = """
## What is sent and answered in JSON

Each schema that a request above names, and those within them. What may be null says so.
"""
LIMITS = """
## Limits

What a service allows unless its operator has set it otherwise, and what comes of more. A request to
`/v2/…/infer` may have the bytes, the pictures and the time of a batch.

| limit | | setting | beyond it |
|---|---|---|---|
"""
PROBLEMS = """
## Problems

Whatever cannot be answered gets an `application/problem+json`
([RFC 9457](https://www.rfc-editor.org/rfc/rfc9457)): `type` is `urn:deepemotion:problem:` and the name below,
`title` says what kind of problem it is, `detail` what went wrong this time, `remedy` what you can do, and
`request_id` is to be quoted in a report. `allowed` lists the values of a parameter that has only some. Below
`/v2` the same comes as `{"error": "title: detail; remedy"}`.

Wait as long as `Retry-After` says where it is sent. A path that is not there is `not-found` (404), another
method than those in `Allow` is `method-not-allowed` (405). A page of another site that the operator has not
named may not ask: its browser's preflight is `forbidden` (403). A query parameter that does not exist is
refused (`invalid-request`), as it may be a misspelt one. What is no HTTP/1.1, or can be read in more than one
way, is `bad-request` (400), and the connection is closed.

| status | name | what it means | what you can do | `Retry-After` |
|---|---|---|---|---|
"""

_BEYOND = {
    "max_upload_bytes": "413 `body-too-large`",
    "max_pixels": "413 `too-many-pixels`",
    "max_files": "422 `too-many-files`; 400 `bad-inference` below `/v2`",
    "max_batch_bytes": "413 `body-too-large`",
    "upload_seconds": "408 `body-too-slow`",
    "predict_seconds": "504 `deadline-passed`",
    "batch_seconds": "the pictures that are not done get 504 `deadline-passed`",
    "explain_seconds": "504 `deadline-passed`",
    "max_predictions": "503 `queue-full`",
    "max_explanations": "503 `queue-full`",
    "upload_memory_bytes": "503 `busy`",
    "max_connections": "503 `too-many-connections`",
    "head_seconds": "cut off",
    "write_seconds": "cut off",
    "rate_units": "429 `too-often`",
    "rate_burst": "429 `too-often`",
}
"""What comes of more than a setting allows."""
_SIGNS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "maxLength": "of characters ≤"}


def page(schema: dict[str, Any]) -> str:
    """The page, in Markdown."""
    lines = [
        line
        for path, methods in schema["paths"].items()
        for method, operation in methods.items()
        for line in _operation(f"{method.upper()} {path}", operation, schema["components"])
    ]
    schemas = schema["components"]["schemas"]
    rows = [
        f"| {kind.status} | `{kind.slug}` | {kind.title} | {_cell(kind.remedy)} | "
        f"{'' if kind.retry_after is None else f'{kind.retry_after:g} s or more'} |"
        for kind in sorted(TABLE.values(), key=lambda kind: (kind.status, kind.slug))
    ]
    named = list(dict.fromkeys(_named(schema["paths"])))
    tables = [line for name in _reached(named, schemas) for line in _table(name, schemas[name])]
    parts: list[tuple[str, Iterable[str]]]
    parts = [(HEAD, lines), (ANSWERS, tables), (LIMITS, _limits()), (PROBLEMS, rows)]
    return "\n".join(head + "\n".join(body) for head, body in parts) + "\n"


def _operation(name: str, operation: dict[str, Any], components: dict[str, Any]) -> Iterator[str]:
    yield f"\n### `{name}`\n"
    summary = operation["summary"]
    end = "" if summary.endswith("?") else "."
    yield f"{summary}{end} {operation['description'].partition('Raises:')[0].strip()}\n"
    keys = [name for each in operation.get("security", ()) for name in each]
    if told := [components["securitySchemes"][name]["description"] for name in keys]:
        yield f"Bearer token in `Authorization`: {' or '.join(told)}.\n"
    if body := operation.get("requestBody"):
        yield f"Body: {', '.join(_shape(kind, content) for kind, content in body['content'].items())}.\n"
    if parameters := [each for each in operation.get("parameters", ()) if each["in"] != "path"]:
        yield "| parameter | in | values | |\n|---|---|---|---|"
        for each in parameters:
            told = _cell(each.get("description", ""))
            yield f"| `{each['name']}` | {each['in']} | {_values(each['schema'])} | {told} |"
        yield ""
    answer = operation["responses"]["200"]
    shapes = [_shape(kind, content) for kind, content in answer["content"].items()]
    about = "" if answer["description"] == "Successful Response" else f": {answer['description']}"
    yield f"Answer: {' or '.join(shapes)}{about}.\n"
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
    name = _name_of(content.get("schema", {}))
    return f"`{kind}` ({_link(name)})" if name else f"`{kind}`"


def _link(name: str) -> str:
    return f"[{name}](#{name.lower()})"


def _name_of(schema: dict[str, Any]) -> str:
    """Of the schema that is referred to; empty if it is none."""
    return str(schema.get("$ref", "")).rpartition("/")[2]


def _named(what: Any) -> Iterator[str]:
    """Every schema that is referred to, in the order of the page."""
    if isinstance(what, dict):
        if name := _name_of(what):
            yield name
        for key, value in what.items():
            if key != "examples":
                yield from _named(value)
    elif isinstance(what, list):
        for each in what:
            yield from _named(each)


def _reached(names: list[str], schemas: dict[str, Any]) -> Iterator[str]:
    """The schemas and those within them, each once."""
    waiting, known = list(names), set(names)
    while waiting:
        name = waiting.pop(0)
        yield name
        within = [each for each in dict.fromkeys(_named(schemas[name])) if each not in known]
        known.update(within)
        waiting = within + waiting


def _table(name: str, schema: dict[str, Any]) -> Iterator[str]:
    yield f"\n### {name}\n"
    yield f"{' '.join(schema['description'].split())}\n"
    yield "| field | | |\n|---|---|---|"
    for field, about in schema["properties"].items():
        yield f"| `{field}` | {_type(about)} | {_cell(about.get('description', ''))} |"


def _type(schema: dict[str, Any]) -> str:
    """Of a field, in a few words."""
    if name := _name_of(schema):
        return _link(name)
    if "anyOf" in schema:
        return " or ".join(_type(each) for each in schema["anyOf"])
    if "enum" in schema or "const" in schema:
        return ", ".join(f"`{each}`" for each in schema.get("enum", [schema.get("const")]))
    if schema.get("type") == "array":
        return f"list of {_type(schema['items'])}" if "items" in schema else "list"
    if isinstance(values := schema.get("additionalProperties"), dict):
        return f"object of {_type(values)}"
    return str(schema.get("type", "anything"))


def _limits() -> Iterator[str]:
    for name, beyond in _BEYOND.items():
        field = Settings.model_fields[name]
        allowed = _quantity(name, field.default)
        about = _cell(str(field.description))
        yield f"| {about} | {allowed} | `DEEPEMOTION_{name.upper()}` | {beyond} |"


def _quantity(name: str, value: float | None) -> str:
    if value is None:
        return "none"
    if name.endswith("_bytes"):
        return f"{value / MEBIBYTE:g} MiB"
    return f"{value:g} s" if name.endswith("_seconds") else f"{value:,}"


def _values(schema: dict[str, Any]) -> str:
    """Type, limits and default, in a few words."""
    chosen = next((each for each in schema.get("anyOf", ()) if each.get("type") != "null"), schema)
    words = ", ".join(f"`{each}`" for each in chosen.get("enum", ())) or chosen["type"]
    for key, sign in _SIGNS.items():
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

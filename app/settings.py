"""Everything about the service that an operator may choose.

Each field is read from the environment as ``DEEPEMOTION_<FIELD>``. There is no instance here: settings are
made once, by the command line or a test, and passed in.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import AfterValidator, Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from app import tracing
from app.picture import MAX_PIXELS

if TYPE_CHECKING:
    from collections.abc import Iterable

MEBIBYTE = 1024 * 1024
PILLOW_WARNS_ABOVE = 89_000_000  # pixels; Pillow's own ceiling (1 GiB / 4 / 3) is a little higher

PREFIX = "DEEPEMOTION_"
_COMPOSES_OWN = frozenset({"PUBLISH", "MEMORY", "GRACE", "NET"})
"""Of the same prefix, and read by the compose files alone."""
_LINKS = re.compile(r"(\w+_)?(SERVICE_(HOST|PORT)\w*|PORT_\d+_(TCP|UDP|SCTP)\w*)|\w+_PORT")
"""What Kubernetes sets in every container beside Services named deepemotion, or deepemotion-canary."""

Seconds = Annotated[float, Field(gt=0, le=3600, allow_inf_nan=False)]


def _as_browsers_say(origin: str) -> str:
    """Without capitals, and without the port that goes without saying: what is compared is the text."""
    scheme, _, site = origin.lower().partition("://")
    return f"{scheme}://{site.removesuffix(':443' if scheme == 'https' else ':80')}"


Origin = Annotated[
    str, Field(pattern=r"^https?://[A-Za-z0-9.:\[\]-]{1,255}$"), AfterValidator(_as_browsers_say)
]


class Settings(BaseSettings):
    """The choices for one process; frozen, so that nothing changes under a running request."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid")

    checkpoint: Path = Field(
        default=Path("models/emotion6.pt"),
        description="TorchScript checkpoint; SHA256SUMS beside it must list its digest",
    )
    device: str = Field(
        default="auto",
        pattern=r"^(auto|cpu|cuda|cuda:\d{1,2}(,cuda:\d{1,2}){0,63})$",
        description="where the network runs: cuda is every GPU, cuda:0,cuda:2 those two, cpu every CPU "
        "socket; auto is cuda if there is a GPU, else cpu. Each device gets a copy of the network",
    )
    precision: Literal["float32", "float16", "int8"] = Field(
        default="float32",
        description="of predictions: int8 takes a processor about half the time, float16 is for GPUs; they "
        "change the answers by what GET /v1/model says under quantised. NAME.int8.onnx or NAME.float16.json "
        "must lie beside the checkpoint. Explanations are float32 always",
    )
    threads: int | None = Field(
        default=None,
        ge=1,
        le=1024,
        description="CPU threads of one operation; unset takes as many as the processors that affinity and "
        "the container's quota allow",
    )

    host: str = Field(
        default="127.0.0.1",
        pattern=r"^\S+$",  # of nothing asyncio makes every address there is
        description="address to listen on; local by default, because without keys_file nobody needs a key",
    )
    port: int = Field(default=8000, ge=0, le=65535, description="TCP port; 0 takes any free one and logs it")
    max_connections: int = Field(
        default=1000,
        ge=1,
        le=1_000_000,
        description="connections at once, waiting ones included; each takes one of the files that the "
        "process may open, of which there often are 1,024. More are answered 503 before they ask",
    )
    head_seconds: Seconds = Field(
        default=10.0, description="time for a request's line and headers to arrive; later it is cut off"
    )
    write_seconds: Seconds = Field(
        default=30.0,
        description="time in which a client has to read the next 16 KiB of an answer; later it is cut off",
    )
    trusted_proxies: str = Field(
        default="",
        max_length=4096,
        description="addresses or networks, with commas, whose X-Forwarded-For is believed; none by default",
    )
    cors_origins: tuple[Origin, ...] = Field(
        default=(),
        description="other sites whose pages may ask this service, as a JSON list such as "
        '["https://example.org"]; none by default',
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="least severe log line that is written"
    )

    traces: str | None = Field(
        default=None,
        pattern=r"^https?://",
        description="where OpenTelemetry's traces are sent, by OTLP over HTTP, as "
        "http://localhost:4318/v1/traces; unset sends none. Needs the extra `tracing`",
    )

    max_upload_bytes: int = Field(
        default=20 * MEBIBYTE,
        ge=1,
        le=1024 * MEBIBYTE,
        description="bytes of a whole request body; a photo of 24 megapixels is about 10 MiB",
    )
    max_files: int = Field(
        default=32, ge=1, le=1000, description="pictures in one request to /v1/predict/batch"
    )
    max_batch_bytes: int = Field(
        default=128 * MEBIBYTE,
        ge=1,
        le=1024 * MEBIBYTE,
        description="bytes of a whole request to /v1/predict/batch",
    )
    upload_memory_bytes: int = Field(
        default=512 * MEBIBYTE,
        ge=1,
        description="bytes of all uploads held at once; beyond it, new ones are turned away",
    )
    unread_memory_bytes: int = Field(
        default=512 * MEBIBYTE,
        ge=1,
        description="bytes of all answers that clients have not read yet; beyond it, who has had his answer "
        "longest is cut off",
    )
    keep_alive_seconds: float = Field(
        default=5.0,
        ge=1,
        le=3600,
        allow_inf_nan=False,
        description="whole seconds that a connection without a request stays open, and counts among "
        "`max_connections`; behind a load balancer longer than it keeps its own open, else some of its "
        "requests meet a closing one",
    )
    upload_seconds: Seconds = Field(
        default=30.0,
        description="time for a whole body to arrive; the server below has no such limit of its own",
    )
    max_pixels: int = Field(
        default=MAX_PIXELS,
        ge=1,
        le=PILLOW_WARNS_ABOVE,
        description="pixels that a picture's header may announce; up to 14 bytes each in decoding",
    )
    decode_threads: int = Field(
        default=1,
        ge=1,
        le=64,
        description="pictures decoded at once, each in up to 14 x max_pixels bytes",
    )

    predict_seconds: Seconds = Field(
        default=10.0,
        description="time from the end of an upload to its prediction; a client rarely waits longer",
    )
    batch_seconds: Seconds = Field(
        default=60.0, description="the same for all pictures of a request to /v1/predict/batch together"
    )
    explain_seconds: Seconds = Field(
        default=120.0,
        description="the same for an explanation, which takes many gradient steps",
    )
    max_batch: int = Field(
        default=8,
        ge=1,
        le=1024,
        description="pictures on a device at once, which the threads of a CPU share out; more gains little "
        "there and delays whoever came first",
    )
    hang_seconds: Seconds = Field(
        default=60.0,
        description="one batch or half a gradient step that takes longer has hung: its requests are answered "
        "503, and its thread is replaced",
    )
    max_predictions: int = Field(
        default=128,
        ge=1,
        le=100_000,
        description="predictions under way, decoding included; more are refused at once, rather than late",
    )
    max_explanations: int = Field(
        default=16,
        ge=1,
        le=10_000,
        description="explanations waiting; each costs as much as many predictions",
    )
    running_explanations: int | None = Field(
        default=None,
        ge=1,
        le=256,
        description="explanations that share a gradient step; a prediction may have to wait for half. Unset "
        "is 1 on a CPU, where a shared step costs as much as its parts one by one, and 8 on a GPU",
    )
    drain_seconds: float = Field(
        default=30.0,
        ge=0,
        le=3600,
        allow_inf_nan=False,
        description="time to finish what was accepted once asked to stop; Kubernetes kills after 30 s",
    )

    keys_file: Path | None = Field(
        default=None,
        description="file of hashed API keys, a name and a SHA-256 on each line, as `deepemotion key NAME` "
        "prints them; read again when it changes. Unset asks nobody for a key",
    )
    rate_units: float | None = Field(
        default=None,
        gt=0,
        le=1_000_000,
        allow_inf_nan=False,
        description="units of work a second that one API key, or without keys one address, may ask for in "
        "the long run: 1 for a prediction, 17 for a quick explanation. Unset is no limit",
    )
    rate_burst: int = Field(
        default=60, ge=1, le=1_000_000, description="units that it may ask for at once after a pause"
    )
    metrics_need_admin_key: bool = Field(
        default=False, description="whether GET /metrics wants the admin key, as Prometheus can send it"
    )
    admin_key: SecretStr | None = Field(
        default=None,
        min_length=16,
        description="what POST /v1/model/reload wants as a bearer token; unset refuses it to everybody, and "
        "SIGHUP remains",
    )

    @field_validator("trusted_proxies")
    @classmethod
    def _proxies_are_addresses(cls, proxies: str) -> str:
        for proxy in proxies.split(",") if proxies else ():
            try:
                ipaddress.ip_network(proxy.strip())
            except ValueError as error:  # uvicorn would believe nobody, or with an asterisk everybody
                raise ValueError(
                    f"{error}; name a proxy by its address, as 10.0.0.5, or its network, as 10.0.0.0/8"
                ) from error
        return proxies

    @field_validator("traces")
    @classmethod
    def _tracing_is_installed(cls, traces: str | None) -> str | None:
        if traces is not None and not tracing.installed():
            raise ValueError("traces need an extra: python -m pip install 'deepemotion[tracing]'")
        return traces

    @model_validator(mode="after")
    def _metrics_have_a_reader(self) -> Self:
        if self.metrics_need_admin_key and self.admin_key is None:
            raise ValueError("metrics_need_admin_key needs an admin_key")
        return self

    @model_validator(mode="after")
    def _one_upload_fits(self) -> Self:
        if self.upload_memory_bytes < max(self.max_upload_bytes, self.max_batch_bytes):
            raise ValueError("upload_memory_bytes must be at least max_upload_bytes and max_batch_bytes")
        return self

    @model_validator(mode="after")
    def _no_variable_is_misspelt(self) -> Self:
        # What is not read cannot protect: DEEPEMOTION_KEY_FILE would let everybody in.
        if unknown := unknown_variables(os.environ):
            raise ValueError("; ".join(unknown))
        return self


def unknown_variables(environment: Iterable[str]) -> list[str]:
    """What is wrong with each variable that begins like a setting and is none.

    Args:
        environment: names of variables; as pydantic reads them, upper and lower case are alike.
    """
    names = [name for name in environment if name.upper().startswith(PREFIX)]
    known = [f"{PREFIX}{field.upper()}" for field in Settings.model_fields]
    complaints = []
    for name in sorted(names):
        own = name.upper().removeprefix(PREFIX)
        if name.upper() in known or own in _COMPOSES_OWN or _LINKS.fullmatch(own):
            continue
        meant = difflib.get_close_matches(name.upper(), known, n=1)
        complaints.append(f"{name} is no setting" + (f": is {meant[0]} meant?" if meant else ""))
    return complaints

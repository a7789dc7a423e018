from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from prometheus_client.parser import text_string_to_metric_families

from app.checkpoint import sha256_of
from tests.api.serving import service
from tests.pictures import plain

if TYPE_CHECKING:
    from pathlib import Path

    import httpx

    from app.settings import Settings


def samples(client: httpx.Client) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Every sample of the service, by name and labels."""
    response = client.get("/metrics")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain")
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
    }


def test_what_was_done_is_counted(base_settings: Settings, checkpoint_path: Path) -> None:
    with service(base_settings) as client:
        before = samples(client)
        for _ in range(3):
            assert client.post("/predict", content=plain()).status_code == 200
        assert client.post("/explain", content=plain()).status_code == 200
        assert client.post("/v1/predict", content=b"hello").status_code == 415
        assert client.post("/v1/predict/batch", content=b"hello").status_code == 415
        assert client.get("/v2/models/another").status_code == 404
        assert client.post("/predict", content=b"hello").status_code == 415
        client.request("PROPFIND", "/predict")
        client.get("/somewhere/else")
        found = samples(client)

    def rise(name: str, **labels: str) -> float:
        key = (f"deepemotion_{name}", tuple(sorted(labels.items())))
        return found[key] - before.get(key, 0.0)

    assert rise("requests_total", route="/predict", method="POST", status="200") == 3
    assert rise("requests_total", route="/predict", method="POST", status="415") == 1
    assert rise("requests_total", route="/predict", method="other", status="405") == 1
    for route in ("/v1/predict", "/v1/predict/batch"):  # with the version that is asked
        assert rise("requests_total", route=route, method="POST", status="415") == 1
    assert rise("requests_total", route="/v2/models/{model_name}", method="GET", status="404") == 1
    assert rise("requests_total", route="none", method="GET", status="404") == 1
    assert rise("request_seconds_count", route="/explain") == 1
    assert rise("decode_seconds_count") == 4
    assert rise("batch_size_sum", kind="prediction") == 4  # the explanation's own among them
    assert rise("batch_size_sum", kind="explanation") == rise("batch_seconds_count", kind="explanation") > 1
    assert rise("queue_seconds_count", kind="prediction") == 4
    assert found["deepemotion_queue_length", (("kind", "prediction"),)] == 0
    assert found["deepemotion_ready", ()] == 1
    model = (("name", "tiny"), ("sha256", sha256_of(checkpoint_path)), ("version", "0.0.1"))
    assert found["deepemotion_model_info", model] == 1
    if sys.platform == "linux":  # read from /proc
        assert found["process_open_fds", ()] > 0
        assert found["process_resident_memory_bytes", ()] > 0


def test_two_services_in_one_process_count_apart(base_settings: Settings) -> None:
    with service(base_settings) as first, service(base_settings) as second:
        assert first.post("/predict", content=plain()).status_code == 200
        key = ("deepemotion_batch_size_count", (("kind", "prediction"),))
        assert samples(first)[key] == 1
        assert samples(second)[key] == 0

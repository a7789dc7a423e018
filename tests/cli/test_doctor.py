from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from app.cli.common import ExitCode
from app.keys import line_of, new_key

if TYPE_CHECKING:
    import httpx
    import pytest

    from tests.cli.conftest import Deepemotion


def checks(deepemotion: Deepemotion, *arguments: object) -> dict[str, dict[str, str]]:
    """Each check by its name."""
    answer = json.loads(deepemotion("doctor", "--port", 0, "--json", *arguments).stdout)
    return {check["name"]: check for check in answer["checks"]}


def test_a_machine_that_can_run_it(deepemotion: Deepemotion) -> None:
    ran = deepemotion("doctor", "--port", 0, "--json")
    answer = json.loads(ran.stdout)
    assert (ran.exit_code, answer["ok"]) == (0, True)
    names = [check["name"] for check in answer["checks"]]
    assert names == [
        "Python",
        "torch",
        "decoders",
        "device",
        "CPU threads",
        "checkpoint",
        "forward pass",
        "memory",
        "port",
    ]
    assert {check["state"] for check in answer["checks"]} <= {"ok", "warn"}
    for check in answer["checks"]:
        assert bool(check["change"]) == (check["state"] == "warn")


def test_a_table_for_people(deepemotion: Deepemotion) -> None:
    ran = deepemotion("doctor", "--port", 0, "--threads", 1000)
    found = [line.split() for line in ran.stdout.splitlines()]
    assert ["ok", "device", "cpu"] in found
    assert ["->", "unset", "DEEPEMOTION_THREADS:", "they", "wait", "for", "each", "other"] in found


def test_a_checkpoint_that_cannot_be_used_fails(deepemotion: Deepemotion, tmp_path: Path) -> None:
    assert deepemotion("doctor", "--port", 0, "--checkpoint", "none.pt").exit_code == ExitCode.FAILED
    found = checks(deepemotion, "--checkpoint", "none.pt")
    assert found["checkpoint"]["state"] == "fail"
    assert found["checkpoint"]["found"].startswith(f"there is no checkpoint at {tmp_path / 'none.pt'};")
    assert "DEEPEMOTION_CHECKPOINT" in found["checkpoint"]["change"]
    assert found["forward pass"]["state"] == "skipped"


def test_a_gpu_that_is_not_there_fails(deepemotion: Deepemotion) -> None:
    found = checks(deepemotion, "--device", "cuda:99")
    assert found["device"]["state"] == "fail"
    assert "DEEPEMOTION_DEVICE" in found["device"]["change"]
    assert found["checkpoint"]["state"] == "skipped", "it is not what is wrong"


def test_a_host_that_is_no_name_fails(deepemotion: Deepemotion) -> None:
    found = checks(deepemotion, "--host", f"{'a' * 70}.com")
    assert found["port"]["state"] == "fail"
    assert "no name of a machine" in found["port"]["found"]


def test_memory_that_uploads_may_outgrow_is_a_warning(
    deepemotion: Deepemotion, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEEPEMOTION_UPLOAD_MEMORY_BYTES", str(10**15))
    assert checks(deepemotion)["memory"]["state"] == "warn"


def test_a_port_that_another_program_has_fails(deepemotion: Deepemotion) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        ran = deepemotion("doctor", "--port", port)
    assert ran.exit_code == ExitCode.FAILED
    assert f"127.0.0.1:{port}: Address already in use" in ran.stdout


def test_a_port_that_something_without_http_has_fails(deepemotion: Deepemotion) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:

        def greet() -> None:
            connection, _ = other.accept()
            with connection:
                connection.sendall(b"SSH-2.0-x\r\n")

        greeting = threading.Thread(target=greet)
        greeting.start()
        ran = deepemotion("doctor", "--port", other.getsockname()[1])
        greeting.join()
    assert ran.exit_code == ExitCode.FAILED
    assert "Address already in use" in ran.stdout


def test_keys_that_cannot_be_read_fail(
    deepemotion: Deepemotion, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DEEPEMOTION_KEYS_FILE", str(tmp_path / "keys"))
    assert checks(deepemotion)["keys"]["state"] == "fail"
    (tmp_path / "keys").write_text(line_of("alice", new_key()), "utf-8")
    assert checks(deepemotion)["keys"]["state"] == "ok"


def test_a_proxy_is_not_asked_for_this_machine(
    deepemotion: Deepemotion, client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    assert checks(deepemotion, "--port", client.base_url.port)["port"]["state"] == "ok"
    text = (Path(__file__).parents[2] / "Dockerfile").read_text("utf-8").replace("\\\n", "")
    (health,) = re.findall(r"^HEALTHCHECK .*? CMD (.*)$", text, re.MULTILINE)
    _, *asking = json.loads(health)
    asking[-1] = asking[-1].replace(":8000/", f":{client.base_url.port}/")
    subprocess.run([sys.executable, *asking], check=True)


def test_a_port_that_the_service_has_is_fine(deepemotion: Deepemotion, client: httpx.Client) -> None:
    found = checks(deepemotion, "--port", client.base_url.port)
    assert found["port"]["state"] == "ok"
    assert "DeepEmotion service" in found["port"]["found"]


def test_an_address_of_another_machine_fails(deepemotion: Deepemotion) -> None:
    found = checks(deepemotion, "--host", "192.0.2.1")  # reserved for documentation
    assert found["port"]["state"] == "fail"


def test_a_misspelt_setting_is_told(deepemotion: Deepemotion, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEEPEMOTION_KEY_FILE", "keys")
    ran = deepemotion("doctor", "--port", 0)
    assert ran.exit_code == ExitCode.USAGE
    assert "DEEPEMOTION_KEY_FILE is no setting: is DEEPEMOTION_KEYS_FILE meant?" in ran.stderr

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, get_args

import pytest

from app.cli.common import ExitCode
from app.cli.explain import Colours, Quality, View
from app.explain.heatmap import OPACITY, PALETTES
from app.explain.presets import PRESETS
from app.explain.views import VIEWS

if TYPE_CHECKING:
    from tests.cli.conftest import Deepemotion

VERBS = ("serve", "predict", "explain", "score", "card", "doctor")


@pytest.mark.parametrize("arguments", [["--help"], *([verb, "--help"] for verb in VERBS)])
def test_help_tells_the_exit_codes_at_once(arguments: list[str]) -> None:
    program = (
        "import sys; from app.cli import cli; "
        f"cli({arguments}, prog_name='deepemotion', standalone_mode=False); print('imported', *sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    told, _, imported = ran.stdout.partition("imported ")
    for code in (0, *ExitCode):
        assert f" {code} " in told
    assert not {"torch", "numpy", "PIL", "fastapi", "pydantic_settings"} & set(imported.split())


def test_the_choices_are_the_service_s() -> None:
    assert get_args(View) == tuple(VIEWS)
    assert get_args(Quality) == tuple(PRESETS)
    assert get_args(Colours) == tuple(PALETTES)


def test_the_opacity_is_the_service_s(deepemotion: Deepemotion) -> None:
    assert f"[default: {OPACITY}]" in " ".join(deepemotion("explain", "--help").stdout.split())


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("deepemotion pre", "predict"),
        ("deepemotion explain --vi", "--view"),
        ("deepemotion score --res", "--restart"),
    ],
)
def test_the_shell_completes(
    deepemotion: Deepemotion, monkeypatch: pytest.MonkeyPatch, typed: str, completed: str
) -> None:
    monkeypatch.setenv("_DEEPEMOTION_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", typed)
    monkeypatch.setenv("COMP_CWORD", str(len(typed.split()) - 1))
    assert deepemotion().stdout.split() == [completed]


def test_no_verb_is_wrong_usage(deepemotion: Deepemotion) -> None:
    assert deepemotion().exit_code == ExitCode.USAGE

"""Nothing that we run unpickles: a pickle is a program."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted([*(ROOT / "app").rglob("*.py"), *(ROOT / "training").rglob("*.py")])
MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
CALLS = {"torch.load", "numpy.load", "np.load", "pd.read_pickle", "pandas.read_pickle"}
HARMLESS = {("torch.load", "weights_only", "True"), ("np.load", "allow_pickle", "False")}
"""Calls that with this argument admit nothing but numbers."""


def offences(source: str) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.split(".")[0] in MODULES]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in MODULES:
            found.append(str(node.module))
        elif isinstance(node, ast.ImportFrom) and node.module in {"torch", "numpy"}:
            found += [f"{node.module}.load" for alias in node.names if alias.name == "load"]
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in CALLS:
            name = ast.unparse(node.func)
            given = {(name, each.arg or "", ast.unparse(each.value)) for each in node.keywords}
            found += [] if given & HARMLESS else [name]
    return found


@pytest.mark.parametrize("path", SOURCES, ids=[str(path.relative_to(ROOT)) for path in SOURCES])
def test_no_module_unpickles(path: Path) -> None:
    source = path.read_text("utf-8")
    assert offences(source) == []
    assert "app" not in path.relative_to(ROOT).parts or "torch.load" not in source  # the service not even so


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads",
        "import torch\ntorch.load('x', weights_only=False)",
        "from torch import load",
        "import numpy as np\nnp.load('x')",
        "import joblib as j",
    ],
)
def test_it_would_be_seen(source: str) -> None:
    assert offences(source)

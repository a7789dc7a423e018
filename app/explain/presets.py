"""How far and how finely to dream, by the names that a request asks for."""

from __future__ import annotations

from app.explain.dream import QUICK, THOROUGH, DreamSettings

PRESETS: dict[str, DreamSettings] = {"quick": QUICK, "thorough": THOROUGH}
"""The first is the default."""

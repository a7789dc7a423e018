"""How far and how finely to dream, by the names that a request asks for."""

from __future__ import annotations

from app.explain.dream import DEFAULTS, DreamSettings

PRESETS: dict[str, DreamSettings] = {"quick": DEFAULTS, "thorough": DreamSettings(steps=(8, 12))}
"""The first is the default."""

"""Continuous batching on one device, behind an async queue; nothing here knows HTTP."""

from __future__ import annotations

from app.engine.engine import Engine
from app.engine.errors import DeadlinePassed, EngineError, EngineStopped, ModelFailed, QueueFull
from app.engine.jobs import Explanation, Prediction
from app.engine.worker import EngineLimits

__all__ = [
    "DeadlinePassed",
    "Engine",
    "EngineError",
    "EngineLimits",
    "EngineStopped",
    "Explanation",
    "ModelFailed",
    "Prediction",
    "QueueFull",
]

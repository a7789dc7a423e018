"""Continuous batching on each device, behind an async queue; nothing here knows HTTP."""

from __future__ import annotations

from app.engine.engine import Engine
from app.engine.errors import DeadlinePassed, DeviceLost, EngineError, EngineStopped, ModelFailed, QueueFull
from app.engine.jobs import Explanation, Prediction
from app.engine.limits import EngineLimits, Kind
from app.engine.model import Model, load_model, load_model_apart

__all__ = [
    "DeadlinePassed",
    "DeviceLost",
    "Engine",
    "EngineError",
    "EngineLimits",
    "EngineStopped",
    "Explanation",
    "Kind",
    "Model",
    "ModelFailed",
    "Prediction",
    "QueueFull",
    "load_model",
    "load_model_apart",
]

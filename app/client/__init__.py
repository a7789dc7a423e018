"""A client of the service, for Python programs: `Client`, and `AsyncClient` for asyncio.

It needs httpx and tenacity and nothing else of the service's: neither torch nor numpy nor Pillow::

    from app.client import Client

    with Client("http://localhost:8000") as client:
        print(client.predict("photo.jpg").dominant.emotion)
"""

from app.client.answers import (
    Dominant,
    Evidence,
    Explanation,
    ExplanationImage,
    ImageFacts,
    ModelInfo,
    ModelName,
    Outcome,
    Prediction,
    RawMap,
    Region,
)
from app.client.asynchronous import AsyncClient
from app.client.blocking import Client
from app.client.errors import ClientError, DeadlinePassed, ServiceError, UnexpectedAnswer, Unreachable

__all__ = [
    "AsyncClient",
    "Client",
    "ClientError",
    "DeadlinePassed",
    "Dominant",
    "Evidence",
    "Explanation",
    "ExplanationImage",
    "ImageFacts",
    "ModelInfo",
    "ModelName",
    "Outcome",
    "Prediction",
    "RawMap",
    "Region",
    "ServiceError",
    "UnexpectedAnswer",
    "Unreachable",
]

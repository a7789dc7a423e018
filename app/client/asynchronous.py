"""The client for asyncio. The blocking one is this one in a thread of its own."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from app.client import answers, reading
from app.client.calling import Caller
from app.client.errors import ClientError
from app.client.pictures import Given, Picture, bytes_of, each

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterable, Iterable
    from types import TracebackType

    import httpx

DEFAULT_URL = "http://127.0.0.1:8000"
DEFAULT_TIMEOUT = 120.0
DEFAULT_RETRIES = 5


class AsyncClient:
    """Asks one service. To be used as a context manager, or closed with `aclose`; tasks may share it.

    Args:
        base_url: of the service, with the path before its own if it has one.
        timeout: seconds for one call, with all its tries and the waits between them. The service is told how
            long it has, and drops the work when nobody waits for it any more.
        retries: tries after the first, of what may be answered later; see `app.client.retrying`.
        api_key: sent as a bearer token.
        transport: instead of httpx's own, for a proxy or certificates.
    """

    def __init__(
        self,
        base_url: str = DEFAULT_URL,
        *,
        timeout: float = DEFAULT_TIMEOUT,
        retries: int = DEFAULT_RETRIES,
        api_key: str | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._caller = Caller(
            base_url, timeout=timeout, retries=retries, api_key=api_key, transport=transport
        )

    async def predict(self, picture: Picture, *, request_id: str | None = None) -> answers.Prediction:
        """Which emotions a picture evokes.

        Args:
            picture: a JPEG, PNG or WebP.
            request_id: names the request in the service's log: letters, digits, ``._-``, at most 64.

        Raises:
            ServiceError: the service refused the picture, or was busy at every try.
            Unreachable: it could not be reached.
            DeadlinePassed: the answer did not come in time.
            UnexpectedAnswer: something else answered.
            OSError: the file cannot be read.
        """
        data = await bytes_of(picture)
        return await self._caller.post(
            "v1/predict", reading.prediction, data, accept="application/json", request_id=request_id
        )

    async def explain(
        self,
        picture: Picture,
        *,
        emotion: str | None = None,
        layer: str | None = None,
        view: str | None = None,
        quality: str | None = None,
        colours: str | None = None,
        strength: float | None = None,
        legend: bool | None = None,
        max_side: int | None = None,
        request_id: str | None = None,
    ) -> answers.ExplanationImage:
        """Which parts of a picture evoke an emotion. What is left out is the service's to choose.

        Args:
            picture: a JPEG, PNG or WebP.
            emotion: one of the labels that `model` lists; the dominant one if left out.
            layer: an inner layer, one of those that `model` lists, instead of an emotion.
            view: overlay, heatmap, dream, pair or sheet.
            quality: quick or thorough.
            colours: red-blue or cividis.
            strength: opacity of the strongest evidence in an overlay, above 0 and up to 1.
            legend: add a strip that says what is shown.
            max_side: reduce the picture so that neither side is longer, in pixels.
            request_id: see `predict`.

        Raises:
            ClientError, OSError: see `predict`.
        """
        data = await bytes_of(picture)
        wishes = {
            "emotion": emotion,
            "layer": layer,
            "view": view,
            "quality": quality,
            "colours": colours,
            "strength": strength,
            "legend": legend,
            "max_side": max_side,
        }
        return await self._caller.post(
            "v1/explain",
            reading.explanation_image,
            data,
            accept="image/png",
            request_id=request_id,
            wishes=wishes,
        )

    async def evidence(
        self,
        picture: Picture,
        *,
        emotion: str | None = None,
        layer: str | None = None,
        all_emotions: bool = False,
        quality: str | None = None,
        raw_map: str | None = None,
        request_id: str | None = None,
    ) -> answers.Explanation:
        """The same for programs: the regions of the picture that raise or lower an emotion.

        Args:
            picture: a JPEG, PNG or WebP.
            emotion: one of the labels that `model` lists; the dominant one if left out.
            layer: an inner layer, one of those that `model` lists, instead of an emotion.
            all_emotions: one explanation for each emotion instead, the most probable first.
            quality: quick or thorough.
            raw_map: png or npz, to have the whole map too, in that form.
            request_id: see `predict`.

        Raises:
            ClientError, OSError: see `predict`.
        """
        data = await bytes_of(picture)
        view = "sheet" if all_emotions else None
        wishes = {"emotion": emotion, "layer": layer, "view": view, "quality": quality, "map": raw_map}
        return await self._caller.post(
            "v1/explain",
            reading.explanation,
            data,
            accept="application/json",
            request_id=request_id,
            wishes=wishes,
        )

    async def model(self) -> answers.ModelInfo:
        """The checkpoint that answers, and what it says of itself.

        Raises:
            ClientError: see `predict`.
        """
        return await self._caller.get("v1/model", reading.model)

    async def ready(self) -> bool:
        """Whether pictures are taken now: one try, a few seconds at most.

        Raises:
            ServiceError: there is something else at this address.
        """
        return await self._caller.ready("readyz")

    async def predict_many(
        self, pictures: Iterable[Given] | AsyncIterable[Given], *, concurrency: int = 8
    ) -> AsyncGenerator[answers.Outcome[Given]]:
        """Predict pictures side by side and yield what became of each, in their order.

        At most twice as many pictures are taken as may be under way, so there may be endlessly many of them.
        Close the iterator (`contextlib.aclosing`) if you leave it early: what is under way is then dropped.

        Args:
            pictures: an ordinary iterable holds up the event loop while it looks for its next picture.
            concurrency: requests under way at once.
        """
        if concurrency < 1:
            raise ValueError("the concurrency must be at least 1")
        places = asyncio.Semaphore(concurrency)
        under_way: deque[asyncio.Task[answers.Outcome[Given]]] = deque()
        try:
            async for picture in each(pictures):
                under_way.append(asyncio.create_task(self.outcome(picture, places)))
                while under_way and (under_way[0].done() or len(under_way) >= 2 * concurrency):
                    yield await under_way.popleft()
            while under_way:
                yield await under_way.popleft()
        finally:
            for task in under_way:
                task.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)

    async def outcome(self, picture: Given, places: asyncio.Semaphore) -> answers.Outcome[Given]:
        """What becomes of one of many pictures, once there is a place for it."""
        async with places:
            try:
                return answers.Outcome(picture, prediction=await self.predict(picture))
            except (ClientError, OSError) as error:
                return answers.Outcome(picture, error=error)

    async def aclose(self) -> None:
        """Close all connections."""
        await self._caller.close()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

"""The client for programs without asyncio."""

from __future__ import annotations

import asyncio
import os
import threading
from collections import deque
from typing import TYPE_CHECKING, Any, TypeVar

from app.client.asynchronous import (
    DEFAULT_RETRIES,
    DEFAULT_TIMEOUT,
    DEFAULT_URL,
    AsyncClient,
)

if TYPE_CHECKING:
    from collections.abc import Coroutine, Generator, Iterable
    from concurrent.futures import Future
    from types import TracebackType

    import httpx

    from app.client.answers import Explanation, ExplanationImage, ModelInfo, Outcome, Prediction
    from app.client.pictures import Given, Picture

T = TypeVar("T")


class Client:
    """`AsyncClient` in a thread of its own; takes and raises what that does.

    There a call has one timeout that holds whatever the network does. httpx's own blocking client can only
    limit each read and write, so a service that sends a byte now and then could hold it for ever.

    To be used as a context manager, or closed with `close`; any number of threads may share it.
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
        self._client = AsyncClient(
            base_url, timeout=timeout, retries=retries, api_key=api_key, transport=transport
        )
        self._process = os.getpid()
        self._scheduling = threading.Lock()
        self._closed = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="deepemotion-client", daemon=True)
        self._thread.start()

    def predict(self, picture: Picture, *, request_id: str | None = None) -> Prediction:
        """Which emotions a picture evokes; see `AsyncClient.predict`."""
        return self._wait(self._client.predict(picture, request_id=request_id))

    def explain(
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
    ) -> ExplanationImage:
        """Which parts of a picture evoke an emotion; see `AsyncClient.explain`."""
        return self._wait(
            self._client.explain(
                picture,
                emotion=emotion,
                layer=layer,
                view=view,
                quality=quality,
                colours=colours,
                strength=strength,
                legend=legend,
                max_side=max_side,
                request_id=request_id,
            )
        )

    def evidence(
        self,
        picture: Picture,
        *,
        emotion: str | None = None,
        layer: str | None = None,
        all_emotions: bool = False,
        quality: str | None = None,
        raw_map: str | None = None,
        request_id: str | None = None,
    ) -> Explanation:
        """The same for programs; see `AsyncClient.evidence`."""
        return self._wait(
            self._client.evidence(
                picture,
                emotion=emotion,
                layer=layer,
                all_emotions=all_emotions,
                quality=quality,
                raw_map=raw_map,
                request_id=request_id,
            )
        )

    def model(self) -> ModelInfo:
        """The checkpoint that answers; see `AsyncClient.model`."""
        return self._wait(self._client.model())

    def ready(self) -> bool:
        """Whether pictures are taken now; see `AsyncClient.ready`."""
        return self._wait(self._client.ready())

    def predict_many(self, pictures: Iterable[Given], *, concurrency: int = 8) -> Generator[Outcome[Given]]:
        """Predict pictures side by side and yield what became of each, in their order.

        At most twice as many pictures are taken as may be under way, so there may be endlessly many of them.
        They are taken in the calling thread.

        Args:
            pictures: may be a generator.
            concurrency: requests under way at once.
        """
        if concurrency < 1:
            raise ValueError("the concurrency must be at least 1")
        places = asyncio.Semaphore(concurrency)
        under_way: deque[Future[Outcome[Given]]] = deque()
        try:
            for picture in pictures:
                under_way.append(self._begin(self._client.outcome(picture, places)))
                while under_way and (under_way[0].done() or len(under_way) >= 2 * concurrency):
                    yield under_way.popleft().result()
            while under_way:
                yield under_way.popleft().result()
        finally:
            for future in under_way:
                future.cancel()

    def close(self) -> None:
        """Close all connections and end the thread; what is under way is dropped."""
        with self._scheduling:
            if self._closed:
                return
            self._closed = True
        if os.getpid() != self._process:
            return  # the thread, and all that it would close, are the parent's
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _begin(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        with self._scheduling:  # what is scheduled after the end of the others would never run
            trouble = "the client is closed" if self._closed else None
            if os.getpid() != self._process:
                trouble = "the client's thread stayed in the process that made it; make a client in each"
            if trouble is None:
                return asyncio.run_coroutine_threadsafe(work, self._loop)
        work.close()
        raise RuntimeError(trouble)

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        future = self._begin(work)
        try:
            return future.result()
        except BaseException:  # Ctrl-C, too, ends the request
            future.cancel()
            raise

    async def _end(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self._client.aclose()

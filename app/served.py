"""The model that answers now, and how another takes its place while requests go on."""

from __future__ import annotations

import asyncio
import logging
import re
from typing import TYPE_CHECKING

from app.checkpoint import CheckpointError
from app.engine import EngineError, Model, load_model_apart

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from app.checkpoint import Precision
    from app.devices import Device
    from app.engine import Engine
    from app.metrics import Metrics

log = logging.getLogger("deepemotion.service")

FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
"""A file beside the configured checkpoint; never a path."""


class Served:
    """The current model. A request reads it once, at its beginning, and keeps to it.

    Args:
        model: loaded from `path`.
        path: of the checkpoint that a reload without a name reads again.
        engine: warms up what comes next.
        devices: the engine's.
        metrics: told which model answers.
        precision: that the next models predict in, too.
    """

    def __init__(
        self,
        model: Model,
        path: Path,
        engine: Engine,
        devices: Sequence[Device],
        metrics: Metrics,
        *,
        precision: Precision = "float32",
    ) -> None:
        self.current = model
        self._path = path
        self._engine = engine
        self._devices = devices
        self._metrics = metrics
        self._precision = precision
        self._one_at_a_time = asyncio.Lock()
        self._announce()

    async def reload(self, file: str | None = None) -> Model:
        """Load and warm up a checkpoint, then let it answer all requests that begin from now on.

        Those that have begun are answered by the model that they began with. On any error that one goes on
        answering alone.

        Args:
            file: name of a file beside the configured checkpoint; None is the last one that was loaded.

        Raises:
            CheckpointError: the file cannot be trusted, read or run; the message says why.
            EngineError: a device died, or the service stopped, before the file had been tried.
        """
        async with self._one_at_a_time:
            try:
                path = self._beside(file)
                model = await self._load(path)
            except CheckpointError as error:
                self._metrics.reloads.labels("refused").inc()
                log.error("the new checkpoint is refused: %s", error)  # noqa: TRY400 - the message is enough
                raise
            except EngineError as error:
                log.error("the new checkpoint could not be tried: %s", error)  # noqa: TRY400 - likewise
                raise
            self.current, self._path = model, path
            self._announce()
            self._metrics.reloads.labels("loaded").inc()
            fields = {"name": model.card.name, "version": model.card.version, "sha256": model.sha256}
            fields["predicts"] = model.predicts
            log.info("reloaded", extra={"fields": fields})
            return model

    def _beside(self, file: str | None) -> Path:
        if file is None:
            return self._path
        if not FILE_NAME.fullmatch(file):
            raise CheckpointError(
                "the name of a checkpoint has letters, digits, dots, dashes and underscores"
            )
        return self._path.parent / file

    async def _load(self, path: Path) -> Model:
        try:
            model = await load_model_apart(path, self._devices, self._precision)
        except CheckpointError:
            raise
        except Exception as error:  # a file that may not be read, a network that fails at once, no memory
            raise CheckpointError(f"{path.name} cannot be loaded: {type(error).__name__}") from error
        try:
            await self._engine.warm(model)
        except EngineError:
            raise  # it is no fault of the file's
        except Exception as error:
            raise CheckpointError(f"the network in {path.name} fails: {type(error).__name__}") from error
        return model

    def _announce(self) -> None:
        self._metrics.set_model(self.current.card.name, self.current.card.version, self.current.sha256)

"""``deepemotion score``."""

import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.common import (
    AsJson,
    Checkpoint,
    Device,
    ExitCode,
    Threads,
    asked_to_stop,
    complain,
    passed_over,
    print_json,
    readable,
    refusals,
    settings_from,
    stop,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from app.offline.listing import Listing
    from app.offline.loading import Loaded
    from app.offline.predicting import Predictor
    from app.offline.scoring import Outputs, Tally
    from app.settings import Settings

BATCH_CPU = 8
BATCH_GPU = 64


def score(
    pictures: Annotated[
        str,
        typer.Argument(
            metavar="FOLDER|LIST",
            help="A folder with pictures at any depth, or a file with one path a line; of a .csv, its column "
            "path, or the first.",
        ),
    ],
    *,
    out: Annotated[Path, typer.Option(help="The table to write, .csv or .parquet.")],
    batch: Annotated[
        int | None,
        typer.Option(
            min=1, max=1024, help=f"Pictures in one forward pass: {BATCH_CPU}, or {BATCH_GPU} on a GPU."
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1, max=256, help="Threads that decode pictures: one a processor, or fewer if memory is short."
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the table if there is one.")] = False,
    restart: Annotated[
        bool, typer.Option("--restart", help="Throw away what an unfinished run has found.")
    ] = False,
    json: AsJson = False,
    checkpoint: Checkpoint = None,
    device: Device = None,
    threads: Threads = None,
) -> None:
    """Predict a large number of pictures into one table, on all devices of this machine.

    The rows keep the order of the list; a folder is taken in the order of its names. The columns are path,
    one for each emotion, dominant, entropy (in nats), width, height, and the model as name@version; from a
    checkpoint whose card has them also valence, novelty, and abstained_because: flat, unfamiliar or nothing.

    Pictures that cannot be predicted are listed in OUT.errors.csv with the reason; that file can be the LIST
    of another run. What has been found is kept in OUT.partial until the table is there: after Ctrl-C, a crash
    or a kill the same command goes on where it stopped.
    """
    settings = settings_from(checkpoint=checkpoint, device=device, threads=threads)
    with refusals():
        from app.offline.listing import folder_or_list
        from app.offline.loading import load
        from app.offline.scoring import Outputs
        from app.offline.scoring import score as run
        from app.offline.tables import check

        listing = folder_or_list(pictures)
        if not listing.paths:
            stop(f"there are no pictures in {pictures}{passed_over(listing)}", ExitCode.USAGE)
        loaded = load(settings)
        check(out, loaded.model.card)
        outputs = Outputs(out)
        predictor = _predictor(loaded, settings, batch, workers)
        began = time.monotonic()
        with _progress() as tell:
            tally = run(loaded.model, predictor, listing, outputs, force=force, restart=restart, tell=tell)
    _report(tally, listing, outputs, seconds=time.monotonic() - began, json=json)
    if tally.refused:
        raise typer.Exit(ExitCode.FAILED)


def _predictor(loaded: "Loaded", settings: "Settings", batch: int | None, workers: int | None) -> "Predictor":
    from app.offline.predicting import Predictor

    on_cpu = loaded.devices[0].torch.type == "cpu"
    return Predictor(
        loaded.model,
        loaded.devices,
        batch=batch or (BATCH_CPU if on_cpu else BATCH_GPU),
        workers=workers or _decoders(settings.max_pixels),
        max_pixels=settings.max_pixels,
    )


def _decoders(max_pixels: int) -> int:
    """A thread for each processor, if so many of the largest pictures fit in half of the free memory."""
    from app.cpus import available_cpus
    from app.memory import available_memory
    from app.picture import DECODING_BYTES

    left = available_memory()
    if left is None:
        return available_cpus()
    return max(1, min(available_cpus(), left // (2 * DECODING_BYTES * max_pixels)))


@contextmanager
def _progress() -> "Iterator[Callable[[Tally], None]]":
    """A bar on stderr, if somebody looks at it; yields what moves it. After Ctrl-C, that ends the command."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    last: Tally | None = None
    with (
        asked_to_stop() as asked,
        Progress(
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[speed]}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[refused]}", style="red"),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        ) as progress,
    ):
        began = time.monotonic()
        task = progress.add_task("", total=None, speed="", refused="")

        def tell(tally: "Tally") -> None:
            nonlocal last
            last = tally
            rate = (tally.done - tally.resumed) / max(time.monotonic() - began, 1e-9)
            progress.update(
                task,
                total=tally.pictures,
                completed=tally.done,
                speed=f"{rate:.1f}/s" if rate else "",
                refused=f"{tally.refused:,} refused" if tally.refused else "",
            )
            if asked():
                raise KeyboardInterrupt

        try:
            yield tell
        except KeyboardInterrupt:
            progress.stop()
            done = f"{last.done:,} of {last.pictures:,} pictures are" if last else "nothing is"
            typer.echo(f"interrupted: {done} done; the same command goes on from there", err=True)
            raise typer.Exit(ExitCode.INTERRUPTED) from None


def _report(tally: "Tally", listing: "Listing", outputs: "Outputs", *, seconds: float, json: bool) -> None:
    scored, now = tally.done - tally.refused, tally.done - tally.resumed
    if json:
        print_json(
            {
                "out": str(outputs.scores),
                "errors": str(outputs.errors) if tally.refused else None,
                "pictures": tally.pictures,
                "scored": scored,
                "refused": tally.refused,
                "resumed": tally.resumed,
                "passed_over": dict(listing.passed_over),
                "seconds": round(seconds, 3),
            }
        )
        return
    speed = f" in {seconds:,.0f} s ({now / seconds:,.1f} a second)" if now else ""
    earlier = f"; {tally.resumed:,} of them were done before" if tally.resumed else ""
    typer.echo(f"{readable(str(outputs.scores))}: {scored:,} pictures{speed}{earlier}")
    if tally.refused:
        complain(f"{tally.refused:,} pictures could not be predicted; {outputs.errors} says why")
    if listing.passed_over:
        typer.echo(f"passed over{passed_over(listing)}", err=True)

"""``deepemotion predict``."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli.common import (
    DOUBTS,
    AsJson,
    Checkpoint,
    Device,
    ExitCode,
    Threads,
    complain,
    console,
    passed_over,
    print_json,
    readable,
    reader_of,
    refusals,
    settings_from,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from app.engine import Model
    from app.offline.predicting import Outcome, Predicted

MOST_AT_ONCE = 8
BAR_WIDTH = 40


def predict(
    pictures: Annotated[
        list[str],
        typer.Argument(
            metavar="PICTURE", help="Files, folders, or patterns such as 'photos/*.jpg'; - reads stdin."
        ),
    ],
    *,
    top_k: Annotated[
        int | None,
        typer.Option(min=1, help="So many of the most probable emotions; with --json, beside all of them."),
    ] = None,
    json: AsJson = False,
    checkpoint: Checkpoint = None,
    device: Device = None,
    threads: Threads = None,
) -> None:
    """Tell which emotions pictures evoke, here and now; no service is needed.

    With --json each line of stdout is what POST /predict would answer, with the picture's path; pictures
    that cannot be predicted are lines of JSON on stderr.
    """
    settings = settings_from(checkpoint=checkpoint, device=device, threads=threads)
    with refusals():
        from app.offline.listing import named
        from app.offline.loading import load
        from app.offline.predicting import Predictor

        listing = named(pictures)
        paths = listing.paths
        if not paths:
            raise typer.BadParameter("there are no pictures in there", param_hint="PICTURE")
        loaded = load(settings, one_device=True)
        predictor = Predictor(
            loaded.model,
            loaded.devices,
            batch=min(MOST_AT_ONCE, len(paths)),
            workers=min(2, len(paths)),
            max_pixels=settings.max_pixels,
        )
        refused = 0
        for outcomes in predictor.batches(paths, reader_of(paths)):
            refused += _print(outcomes, loaded.model, top_k, json=json)
    if listing.passed_over and not json:
        typer.echo(f"passed over{passed_over(listing)}", err=True)
    if refused:
        raise typer.Exit(ExitCode.FAILED)


def _print(outcomes: "Sequence[Outcome]", model: "Model", top_k: int | None, *, json: bool) -> int:
    """Tell some outcomes, and return how many of them are without an answer."""
    from app.offline.pictures import Refused

    refused = 0
    for outcome in outcomes:
        if isinstance(outcome, Refused):
            refused += 1
            if json:
                print_json(
                    {"path": outcome.source, "problem": outcome.problem, "detail": outcome.detail}, err=True
                )
            else:
                complain(f"{outcome.source}: {outcome.detail}")
        elif json:
            print_json(_document(outcome, model, top_k))
        else:
            _print_bars(outcome, model, top_k)
    return refused


def _document(predicted: "Predicted", model: "Model", top_k: int | None) -> dict[str, Any]:
    """What the service would answer, but for the request's id."""
    from app.distribution import described

    return {
        "path": predicted.source,
        **described(model.card, predicted.probabilities.tolist(), predicted.novelty, top_k),
        "model": {"name": model.card.name, "version": model.card.version, "sha256": model.sha256},
        "image": {"width": predicted.width, "height": predicted.height, "format": predicted.format},
    }


def _print_bars(predicted: "Predicted", model: "Model", top_k: int | None) -> None:
    """The emotions of one picture, the strongest first, and whether to believe them."""
    from rich.bar import Bar
    from rich.table import Table
    from rich.text import Text

    out = console()
    heading = Text(readable(predicted.source), "bold")
    heading.append(f"  {predicted.width} x {predicted.height} {predicted.format}", "not bold dim")
    out.print(heading, soft_wrap=True)
    labels = model.card.labels
    said = _document(predicted, model, len(labels) if top_k is None else top_k)
    if said["abstained"]:
        out.print(
            Text(f"  do not rely on this: {DOUBTS[said['abstained_because']]}", "yellow"), soft_wrap=True
        )
    table = Table.grid(padding=(0, 1))
    for place, each in enumerate(said["top"]):
        share, colour = each["probability"], "green" if place == 0 else "default"
        bar = Bar(1.0, 0.0, share, width=BAR_WIDTH, color=colour)
        style = "default" if place else "bold green"
        table.add_row(f"  {each['emotion']}", Text(f"{share:6.1%}", style), bar)
    out.print(table)
    if said["valence"] is not None:
        out.print(
            Text(f"  valence {said['valence']:.2f} ({model.card.valence_scale})", "dim"), soft_wrap=True
        )

"""``deepemotion predict``."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli.common import (
    AsJson,
    Checkpoint,
    Device,
    ExitCode,
    Threads,
    complain,
    console,
    print_json,
    read_picture,
    readable,
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
            metavar="PICTURE...", help="Files, folders, or patterns such as 'photos/*.jpg'; - reads stdin."
        ),
    ],
    *,
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

        paths = named(pictures).paths
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
        for outcomes in predictor.batches(paths, read_picture):
            refused += _print(outcomes, loaded.model, json=json)
    if refused:
        raise typer.Exit(ExitCode.FAILED)


def _print(outcomes: "Sequence[Outcome]", model: "Model", *, json: bool) -> int:
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
            print_json(_document(outcome, model))
        else:
            _print_bars(outcome, model.card.labels)
    return refused


def _document(predicted: "Predicted", model: "Model") -> dict[str, Any]:
    """What the service would answer, but for the request's id."""
    distribution = dict(zip(model.card.labels, predicted.probabilities.tolist(), strict=True))
    dominant = model.card.labels[int(predicted.probabilities.argmax())]
    return {
        "path": predicted.source,
        "distribution": distribution,
        "dominant": {"emotion": dominant, "probability": distribution[dominant]},
        "model": {"name": model.card.name, "version": model.card.version, "sha256": model.sha256},
        "image": {"width": predicted.width, "height": predicted.height, "format": predicted.format},
    }


def _print_bars(predicted: "Predicted", labels: "Sequence[str]") -> None:
    """The emotions of one picture, the strongest first."""
    from rich.bar import Bar
    from rich.table import Table
    from rich.text import Text

    out = console()
    heading = Text(readable(predicted.source), "bold")
    heading.append(f"  {predicted.width} x {predicted.height} {predicted.format}", "not bold dim")
    out.print(heading, soft_wrap=True)
    table = Table.grid(padding=(0, 1))
    shares = predicted.probabilities.tolist()
    for share, label in sorted(zip(shares, labels, strict=True), key=lambda pair: -pair[0]):
        style = "bold green" if share == max(shares) else "default"
        bar = Bar(1.0, 0.0, share, width=BAR_WIDTH, color="green" if share == max(shares) else "default")
        table.add_row(f"  {label}", Text(f"{share:6.1%}", style), bar)
    out.print(table)

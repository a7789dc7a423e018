"""``deepemotion explain``."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

import typer

from app.cli.common import (
    DOUBTS,
    STDIN,
    AsJson,
    Checkpoint,
    Device,
    ExitCode,
    Threads,
    print_json,
    print_table,
    read_picture,
    readable,
    refusals,
    settings_from,
    stop,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from app.engine import Explanation
    from app.offline.loading import Loaded
    from app.picture import Picture
    from app.settings import Settings

# The same choices as POST /explain has; they are repeated here because help must not wait for its imports.
View = Literal["overlay", "heatmap", "dream", "pair", "sheet"]
Quality = Literal["quick", "thorough"]
Method = Literal["dream", "integrated-gradients", "occlusion"]
Colours = Literal["red-blue", "cividis"]

QUALITIES = get_args(Quality)
STDOUT = Path("-")


@dataclass(frozen=True)
class Wish:
    """What is to be explained, and how it is to be shown."""

    picture: str
    emotion: str | None
    view: View
    quality: Quality
    method: Method
    layer: str | None
    colours: Colours
    strength: float
    legend: bool
    max_side: int | None


def explain(
    picture: Annotated[str, typer.Argument(metavar="PICTURE", help="A file; - reads stdin.")],
    *,
    emotion: Annotated[
        str | None, typer.Option(help="The emotion to explain; the dominant one if left out.")
    ] = None,
    view: Annotated[
        View,
        typer.Option(
            help="overlay: the map on the picture; heatmap: the map alone; dream: the picture with the "
            "emotion strengthened; pair: picture and overlay; sheet: the overlays of all emotions."
        ),
    ] = "overlay",
    quality: Annotated[
        Quality | None, typer.Option(help="quick, if left out; thorough takes several times as long.")
    ] = None,
    method: Annotated[
        Method,
        typer.Option(help="To compare the dream with; the others are Captum's, which is an extra: compare."),
    ] = "dream",
    layer: Annotated[
        str | None,
        typer.Option(help="Dream of this inner layer instead of an emotion; a wrong name lists them."),
    ] = None,
    colours: Annotated[
        Colours,
        typer.Option(help="Of the map; cividis of --view heatmap can be told apart in grey print."),
    ] = "red-blue",
    strength: Annotated[
        float, typer.Option(min=0.01, max=1, help="Opacity of the strongest evidence in an overlay.")
    ] = 0.8,
    legend: Annotated[bool, typer.Option("--legend", help="Add a strip that says what is shown.")] = False,
    max_side: Annotated[
        int | None,
        typer.Option(min=16, max=65535, help="Reduce the picture so that neither side is longer, in pixels."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="PNG to write; - is stdout. By default PICTURE-EMOTION-VIEW.png, in this folder."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the PNG if there is one.")] = False,
    json: AsJson = False,
    checkpoint: Checkpoint = None,
    device: Device = None,
    threads: Threads = None,
) -> None:
    """Draw which parts of a picture evoke an emotion: red raises it, blue lowers it.

    The same PNG as POST /explain gives; no service is needed. Its text chunks repeat the facts that are
    printed. The imbalance tells by how much what raises and what lowers had to be weighed against each other
    for the map's sum to be the rise of the emotion's log-odds: above 0.05, look twice.
    """
    settings = settings_from(checkpoint=checkpoint, device=device, threads=threads)
    if method != "dream" and quality is not None:
        stop(f"--quality is of the dream; {method} has its own", ExitCode.USAGE)
    quality = quality or "quick"
    wish = Wish(picture, emotion, view, quality, method, layer, colours, strength, legend, max_side)
    if view == "sheet" and emotion is not None:
        stop("a sheet shows all emotions, so none can be chosen", ExitCode.USAGE)
    _check_choices(wish)
    if out is None and picture == STDIN:
        stop("a picture from stdin has no name to call the PNG by; give --out", ExitCode.USAGE)
    with refusals():
        if (known := out or _named(wish, emotion)) is not None:
            _check(known, force=force)
        from app.offline.loading import load

        loaded = load(settings, one_device=True)
        decoded, explanations = _explain(wish, loaded, settings)
        path = out or _named(wish, loaded.model.card.labels[explanations[0].emotion])
        assert path is not None  # noqa: S101 - the emotion is known by now
        _check(path, force=force)
        _write(path, _draw(decoded, explanations, wish, loaded))
    _report(_facts(wish, path, decoded, explanations, loaded), json=json, err=path == STDOUT)


def _named(wish: Wish, emotion: str | None) -> Path | None:
    """The PNG's name for what it shows; None as long as the emotion is to be the dominant one."""
    subject = "" if wish.view == "sheet" else wish.layer or emotion
    if subject is None:
        return None
    said = (Path(wish.picture).stem, subject, "" if wish.method == "dream" else wish.method, wish.view)
    # An emotion may be called anything, and its name must not lead into another folder.
    return Path("-".join(word for word in said if word).replace("/", "_").replace("\\", "_") + ".png")


def _check_choices(wish: Wish) -> None:
    """Refuse what contradicts itself."""
    if wish.layer is not None and (wish.emotion is not None or wish.view == "sheet"):
        stop("the map of a layer is of no emotion, so neither one nor a sheet can be chosen", ExitCode.USAGE)
    if wish.method != "dream" and (wish.layer is not None or wish.view == "dream"):
        stop(f"{wish.method} dreams of nothing; leave --layer and --view dream out", ExitCode.USAGE)


def _check(out: Path, *, force: bool) -> None:
    """Refuse before the work what would be refused after it."""
    if out == STDOUT:
        return
    if out.suffix.lower() != ".png":
        stop(f"{out} should end in .png, because that is what is written", ExitCode.USAGE)
    if not out.parent.is_dir():
        stop(f"there is no folder {out.parent}", ExitCode.USAGE)
    if out.is_dir():
        stop(f"{out} is a folder", ExitCode.USAGE)
    if out.exists() and not force:
        stop(f"{out} exists already; give --force to replace it, or --out to write elsewhere", ExitCode.USAGE)


def _explain(wish: Wish, loaded: "Loaded", settings: "Settings") -> "tuple[Picture, Sequence[Explanation]]":
    """The picture as it is to be drawn on, and what is to be drawn."""
    from app.offline import explaining
    from app.offline.peers import PeerMissing
    from app.offline.pictures import UnusableFile, refusal
    from app.picture import PictureError, decode

    copy = loaded.model.copies[0]
    if wish.emotion is not None and wish.emotion not in copy.card.labels:
        stop(f"there is no such emotion; choose one of: {', '.join(copy.card.labels)}", ExitCode.USAGE)
    if wish.layer is not None and wish.layer not in copy.layers:
        listed = f"choose one of: {', '.join(copy.layers)}" if copy.layers else "this checkpoint shows none"
        stop(f"there is no such layer; {listed}", ExitCode.USAGE)
    try:
        data = read_picture(wish.picture)
        side = copy.card.input_size
        pixels = decode(data, max_pixels=settings.max_pixels, side=side).as_input(side)
        whole = decode(data, max_pixels=settings.max_pixels)
    except (PictureError, UnusableFile, OSError, MemoryError) as error:
        stop(f"{wish.picture}: {refusal(wish.picture, error).detail}", ExitCode.FAILED)
    index = None if wish.emotion is None else copy.card.labels.index(wish.emotion)
    loaded.devices[0].settle()
    try:
        if wish.view == "sheet":
            return whole, explaining.explain_all(copy, pixels, wish.quality, method=wish.method)
        return whole, [
            explaining.explain(copy, pixels, index, wish.quality, method=wish.method, layer=wish.layer)
        ]
    except PeerMissing as error:
        stop(str(error), ExitCode.FAILED)
    except Exception as error:  # noqa: BLE001 - whatever a network raises on a picture
        stop(f"{wish.picture}: {refusal(wish.picture, error).detail}", ExitCode.FAILED)


def _draw(picture: "Picture", explanations: "Sequence[Explanation]", wish: Wish, loaded: "Loaded") -> bytes:
    from app.explain.facts import notes
    from app.explain.heatmap import PALETTES, to_png
    from app.explain.views import Style, draw

    style = Style(PALETTES[wish.colours], wish.strength, wish.legend, wish.max_side)
    image = draw(picture, explanations, loaded.model.card.labels, wish.view, style)
    return to_png(image, notes(loaded.model.card, loaded.model.sha256, explanations, _settings_of(wish)))


def _write(path: Path, png: bytes) -> None:
    from app.offline.files import replacing

    if path == STDOUT:
        if sys.stdout is None:
            stop("stdout is closed", ExitCode.USAGE)
        sys.stdout.buffer.write(png)
        sys.stdout.flush()
        return
    with replacing(path) as unfinished:
        unfinished.write_bytes(png)


def _facts(
    wish: Wish, path: Path, picture: "Picture", explanations: "Sequence[Explanation]", loaded: "Loaded"
) -> dict[str, Any]:
    """What POST /explain would answer as JSON, but for the request's id, and the files."""
    from app.explain.facts import described, felt

    card = loaded.model.card
    return {
        "path": wish.picture,
        "out": str(path),
        "view": wish.view,
        "explanations": [
            described(each, card.labels, picture.width, picture.height) for each in explanations
        ],
        "settings": _settings_of(wish),
        **felt(card, explanations[0]),
        "model": {"name": card.name, "version": card.version, "sha256": loaded.model.sha256},
        "image": {"width": picture.width, "height": picture.height, "format": picture.format},
    }


def _settings_of(wish: Wish) -> str:
    return wish.quality if wish.method == "dream" else wish.method


def _report(facts: dict[str, Any], *, json: bool, err: bool) -> None:
    if json:
        print_json(facts, err=err)
        return
    rows = []
    for each in facts["explanations"]:
        none = "" if each["evidence"] else "; no evidence, so the map is flat"
        # The dream's map adds up by its balance, and other methods' have none.
        dreamt = facts["settings"] in QUALITIES
        exact = (
            f"imbalance {each['imbalance']:.2%}"
            if dreamt
            else f"completeness error {each['completeness_error']:.2%}"
        )
        if each["layer"] is not None:
            rows.append((each["layer"], f"{exact}{none}"))
            continue
        rows.append((each["emotion"], f"{each['probability']:.1%}; {exact}{none}"))
    if (reason := facts["abstained_because"]) is not None:
        rows.append(("doubt", f"do not rely on this: {DOUBTS[reason]}"))
    rows.append((facts["view"], "stdout" if err else readable(facts["out"])))
    print_table(rows, err=err)

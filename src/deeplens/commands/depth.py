"""`deeplens depth`: depth networks of others, by name: which are known, what each wants, and adding one."""

import json as json_module
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from deeplens.console.errors import InputError
from deeplens.console.options import JsonTarget
from deeplens.console.parsing import parse_size, parse_three
from deeplens.console.report import console_for, table, write_json
from deeplens.model.depth_registry import ASPECTS, CHANNELS, OUTPUTS, RESAMPLINGS, DepthCard, registry
from deeplens.runtimes import depth_store

app = typer.Typer(help="Depth networks of others: list them, describe one, add one.")

Name = Annotated[str, typer.Argument(metavar="NAME", show_default=False, help="Name of the depth network.")]


@app.command("list")
def list_networks(json: JsonTarget = None) -> None:
    """List the depth networks that are known, and those that were added."""
    added = depth_store.stored()
    cards = {**registry(), **{name: each.card for name, each in added.items()}}
    rows = [
        (name, _size(card), card.aspect or "unknown", card.output or "unknown", card.licence, card.commercial,
         "added" if name in added else "")
        for name, card in cards.items()
    ]  # fmt: skip
    columns = ("name", "size", "aspect", "output", "licence", "commercial use", "here")
    console = console_for(json)
    console.print(table("Depth networks", columns, rows))
    console.print(f"\nadded ones are in {depth_store.depth_folder()}")
    report = [{**card.to_json(), "added": name in added} for name, card in cards.items()]
    write_json(json, {"folder": str(depth_store.depth_folder()), "networks": report})


@app.command("info")
def info(name: Name, json: JsonTarget = None) -> None:
    """Describe a depth network: licence, source, input, output and known traps."""
    there = depth_store.find(name) if depth_store.is_stored(name) else None
    card = registry().get(name) if there is None else there.card
    if card is None:
        depth_store.find(name)
        raise InputError(f"no depth network is called '{name}'")
    console = console_for(json)
    console.print(f"{name}: {card.title or 'a network of your own'}\n")
    for key, value in _facts(card).items():
        console.print(f"{key + ':':<16}{value}")
    if card.traps:
        console.print("\nknown traps:")
        for trap in card.traps:
            console.print(f"- {trap}")
    if there is None:
        console.print(f"\nnot added yet: run `deeplens depth add {name}`")
    else:
        console.print(f"\nadded {there.added}, in {there.folder}")
        for file, sha256 in there.sha256.items():
            console.print(f"  {sha256}  {file}")
    more = None if there is None else {"folder": str(there.folder), "sha256": dict(there.sha256), "added": there.added}
    write_json(json, {**card.to_json(), "here": more})


@app.command("add")
def add(
    name: Name,
    source: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="FILE|FOLDER",
            show_default="fetched",
            help="File or folder that is here: ONNX, weights, or a folder of the transformers library.",
        ),
    ] = None,
    accept_licence: Annotated[
        str | None,
        typer.Option(metavar="LICENCE", help="Accept the licence of this name, instead of answering the question."),
    ] = None,
    revision: Annotated[
        str | None, typer.Option(metavar="COMMIT", show_default="the pinned one", help="Revision to fetch.")
    ] = None,
    sha256: Annotated[
        str | None, typer.Option(metavar="HASH", help="SHA-256 that the file of the weights must have.")
    ] = None,
    size: Annotated[
        str | None, typer.Option(metavar="WxH", help="Size that the network runs at, and is exported for.")
    ] = None,
    multiple: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Height and width must be multiples of N pixels.")
    ] = None,
    aspect: Annotated[
        str | None,
        typer.Option(metavar="ASPECT", help=f"Aspect ratio of the photo: {' or '.join(ASPECTS)} it to the size."),
    ] = None,
    resample: Annotated[
        str | None, typer.Option(metavar="FILTER", help=f"How photos are resized: {' or '.join(RESAMPLINGS)}.")
    ] = None,
    mean: Annotated[str | None, typer.Option(metavar="R,G,B", help="Subtracted from the pixels (0 to 1).")] = None,
    std: Annotated[str | None, typer.Option(metavar="R,G,B", help="The pixels are then divided by this.")] = None,
    channels: Annotated[
        str | None, typer.Option(metavar="ORDER", help=f"Channel order of the input: {' or '.join(CHANNELS)}.")
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            metavar="KIND", help=f"What the network gives: {' (near = large) or '.join(OUTPUTS)} (far = large)."
        ),
    ] = None,
    output_name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Output that holds the map, of a network with several.")
    ] = None,
    module: Annotated[
        str | None,
        typer.Option(metavar="PACKAGE.MODULE:CLASS", help="PyTorch class of the network, for a file of weights."),
    ] = None,
    arguments: Annotated[
        str | None, typer.Option("--module-arguments", metavar="JSON", help="Keyword arguments of the class.")
    ] = None,
    licence: Annotated[
        str | None, typer.Option(metavar="NAME", help="Licence of a network of your own, to be noted.")
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Replace the network of that name.")] = False,
    json: JsonTarget = None,
) -> None:
    """Add a depth network: fetch a known one, or take a file that is here."""
    from deeplens.runtimes.depth_add import add as add_network

    known = name in registry()
    if known and licence is not None:
        raise InputError(f"the licence of {name} is known: leave out --licence")
    told: dict[str, Any] = {
        "size": None if size is None else parse_size(size)[::-1],
        "multiple": multiple,
        "aspect": aspect,
        "resample": resample,
        "mean": None if mean is None else parse_three(mean),
        "std": None if std is None else parse_three(std),
        "channels": channels,
        "output": output,
        "output_name": output_name,
        "module": module,
        "arguments": None if arguments is None else _arguments(arguments),
        "licence": licence,
    }
    added = add_network(
        name,
        source=source,
        told=told,
        accepts=lambda card: _accepts(card, accept_licence),
        sha256=sha256,
        revision=revision,
        replace_it=replace,
    )
    for note in added.notes:
        print("note:", note, file=sys.stderr)
    console = console_for(json)
    network = added.network
    weights = network.sha256[network.weights.name]
    what = "added" if added.new else "is there already"
    console.print(f"{name} {what}: {network.folder}, weights {weights[:12]}…, {_size(network.card)}")
    console.print(f"use it: deeplens refocus photo.jpg --focus 0.5,0.5 --depth-network {name} -o out.jpg")
    write_json(json, {"new": added.new, "folder": str(network.folder), "sha256": dict(network.sha256),
                      "card": network.card.to_json(), "notes": list(added.notes)})  # fmt: skip


def _accepts(card: DepthCard, answer: str | None) -> bool:
    """Show the licence, and whether the answer is its name."""
    print(f"{card.name} has the licence {card.licence}; commercial use: {card.commercial}", file=sys.stderr)
    if answer is None and sys.stdin.isatty():
        answer = typer.prompt(f"Type {card.licence} to accept it", default="", show_default=False, err=True)
    if answer is None:
        raise InputError(f"nobody accepted the licence: give --accept-licence {card.licence}")
    return answer.strip() == card.licence


def _arguments(text: str) -> dict[str, Any]:
    try:
        found = json_module.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise InputError(f"'{text}' is no JSON object of keyword arguments: give one such as {{\"width\": 32}}")
    return found


def _size(card: DepthCard) -> str:
    return "unknown" if card.size is None else f"{card.size[1]}x{card.size[0]}"


def _facts(card: DepthCard) -> dict[str, str]:
    def three(values: tuple[float, float, float] | None) -> str:
        return "unknown" if values is None else ", ".join(f"{each:g}" for each in values)

    return {
        "licence": f"{card.licence}; commercial use: {card.commercial}",
        "source": f"{card.repository or 'your own file'}, revision {card.revision or 'not pinned yet'}",
        "files": ", ".join(card.files) or "your own",
        "kind": card.kind + (f", class {card.module}" if card.module else ""),
        "weights": "unknown" if card.parameters is None else f"{card.parameters:g} million",
        "input": f"{_size(card)}, multiples of {card.multiple or 'unknown'}, {card.channels}",
        "aspect": card.aspect or "unknown",
        "resized by": card.resample or "unknown",
        "mean, std": f"{three(card.mean)}; {three(card.std)}",
        "output": f"{card.output or 'unknown'}" + (f", named {card.output_name}" if card.output_name else ""),
    }

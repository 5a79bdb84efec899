"""`deeplens studio`: the page on this machine, with this machine's runtimes behind it."""

import contextlib
import socket
import sys
import threading
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deeplens.console.errors import InputError, MissingError, one_line
from deeplens.console.options import Threads
from deeplens.console.package import pip_install
from deeplens.model.contract import composed
from deeplens.runtimes import AUTO, RUNTIMES, accelerator, folders, open_runtime, resolved
from deeplens.runtimes.accelerator import CPU, DEFAULT, Accelerator
from deeplens.runtimes.options import (
    Artifacts,
    ChannelsLast,
    Compile,
    CpuNodes,
    CudaGraph,
    DepthNetwork,
    Device,
    Precision,
    Provider,
    Runtime,
    Trust,
    Variant,
    Weights,
    weights_from,
)

if TYPE_CHECKING:
    from deeplens.commands.studio_photos import Photos
    from deeplens.model.shipped import Weights as WeightsOf

HOST = "127.0.0.1"
PORT = 8732

MOST_GIVEN = 200
"""Photos of the command line that the page offers."""

CONNECTIONS = 64


def studio(
    photo: Annotated[
        Path | None,
        typer.Argument(
            metavar="[PHOTO|FOLDER]", show_default=False, help="A photo or a folder of photos to begin with."
        ),
    ] = None,
    port: Annotated[
        int, typer.Option(metavar="N", min=0, max=65535, help="Port of this machine to listen on; 0 takes a free one.")
    ] = PORT,
    browser: Annotated[bool, typer.Option("--open/--no-open", help="Open the page in the browser.")] = True,
    runtime: Runtime = AUTO,
    precision: Precision = None,
    provider: Provider = CPU,
    cpu_nodes: CpuNodes = None,
    device: Device = CPU,
    channels_last: ChannelsLast = None,
    compiled: Compile = False,
    cuda_graph: CudaGraph = False,
    variant: Variant = "edge",
    depth_network: DepthNetwork = None,
    artifacts: Artifacts = None,
    _trust: Trust = None,
    weights: Weights = "shipped",
    tile: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=0,
            help="Side of a tile in low-resolution pixels; smaller tiles need less memory, 0 turns tiles off.",
        ),
    ] = 256,
    threads: Threads = None,
    memory: Annotated[
        int,
        typer.Option(
            metavar="MB", min=0, help="Memory that all photos together may keep between two refocusings, in MB."
        ),
    ] = 1024,
    max_megabytes: Annotated[
        float, typer.Option(metavar="N", min=0, help="Largest photo that is taken from the page, in MB.")
    ] = 100.0,
    max_megapixels: Annotated[
        float | None,
        typer.Option(
            metavar="N",
            min=0,
            envvar="DEEPLENS_MAX_MEGAPIXELS",
            help="Largest photo that is read, in millions of pixels.",
            show_default="200, and less in a very short file",
        ),
    ] = None,
) -> None:
    """Open the page on this machine: choose the focus of a photo with a click.

    Only this machine can reach it. What is uploaded lies in a private temporary folder until the program ends.
    """
    try:
        import uvicorn

        from deeplens.commands.studio_app import Studio
    except ImportError as error:
        raise MissingError(
            f"the page needs a library that is not installed ({error}): {pip_install('studio')}"
        ) from error
    from deeplens.commands.studio_photos import Limits, Photos
    from deeplens.commands.studio_work import Work
    from deeplens.runtimes.web_page import PAGE_FOLDER

    chosen_weights = weights_from(weights)
    networks = composed(variant, depth_network)
    placed = Accelerator(provider, cpu_nodes, device, channels_last, compiled, cuda_graph)
    name, precision = resolved(
        runtime,
        variant=networks,
        artifacts=artifacts,
        weights=chosen_weights,
        precision=precision,
        accelerator=placed,
    )
    limits = Limits(
        bytes=round(max_megabytes * 1e6), pixels=None if max_megapixels is None else round(max_megapixels * 1e6)
    )
    listening = _listening(port)
    with contextlib.closing(listening), Photos(limits) as photos:
        if photo is not None:
            _add(photos, photo)
        work = Work(
            photos,
            lambda named: open_runtime(
                named,
                variant=networks,
                artifacts=artifacts,
                weights=chosen_weights,
                threads=threads,
                precision=precision if named == name else None,
                accelerator=placed if named == name else DEFAULT,
            ),
            runtime=name,
            runtimes=(name, *_others(name, networks, artifacts, chosen_weights)),
            tile=tile or None,
            memory=memory * 1_000_000,
        )
        with work:
            ran = work.warm()
            for note in accelerator.notes(ran):
                print("note:", note, file=sys.stderr)
            port = listening.getsockname()[1]
            address = f"http://{HOST}:{port}/?key={photos.key}"
            config = uvicorn.Config(
                Studio(photos, work, page=PAGE_FOLDER, port=port).app(),
                log_level="warning",
                access_log=False,
                server_header=False,
                proxy_headers=False,
                ws="none",
                limit_concurrency=CONNECTIONS,
                timeout_graceful_shutdown=2,
            )
            if not (PAGE_FOLDER / "index.html").is_file():
                print("note: the page is not built: run make web, which needs Node", file=sys.stderr)
            typer.echo(f"{address}  {name} {precision}{accelerator.place(ran)}; Ctrl-C ends it")
            sys.stdout.flush()
            if browser:
                threading.Timer(0.5, webbrowser.open, (address,)).start()
            with contextlib.suppress(KeyboardInterrupt):
                uvicorn.Server(config).run(sockets=[listening])
    typer.echo("ended; what was uploaded is deleted")


def _listening(port: int) -> socket.socket:
    """A socket of the loopback alone. InputError: the port is taken, or not for us."""
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        if sys.platform != "win32":  # there it would let two programs have one port
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((HOST, port))
        made.listen(CONNECTIONS)
    except OSError as error:
        made.close()
        raise InputError(
            f"port {port} of this machine can't be used ({error.strerror or one_line(error)}): give another with "
            "--port, or --port 0 for any that is free"
        ) from error
    return made


def _others(name: str, variant: str, artifacts: Path | None, weights: "WeightsOf") -> list[str]:
    """Further runtimes that have something to run here, in their default precision."""
    found = []
    for other, spec in RUNTIMES.items():
        if other == name or not (spec.automatic or spec.reads_artifacts):
            continue
        if not (spec.is_installed() and spec.is_for_this_machine()):
            continue
        try:
            _, precision = resolved(other, variant=variant, artifacts=artifacts, weights=weights)
            if spec.reads_artifacts and not folders.folder_of(
                spec.stored_as, variant=variant, precision=spec.stored_precision(precision), artifacts=artifacts
            ):
                continue
        except (InputError, MissingError):
            continue
        found.append(other)
    return found


def _add(photos: "Photos", path: Path) -> None:
    """Offer a photo, or the photos of a folder; of a folder, those that can't be read are told and left out."""
    from deeplens.commands.folder_jobs import why_no_photo

    if not path.is_dir():
        photos.add_given(path, path.name)
        return
    found = [each for each in sorted(path.rglob("*")) if why_no_photo(each, each.relative_to(path)) is None]
    if not found:
        raise InputError(f"{path} has no photos: give another folder")
    if len(found) > MOST_GIVEN:
        print(f"note: {path} has {len(found)} photos; the page offers the first {MOST_GIVEN}", file=sys.stderr)
    for each in found[:MOST_GIVEN]:
        try:
            photos.add_given(each, each.relative_to(path).as_posix())
        except (InputError, MissingError) as error:
            print("note:", error, file=sys.stderr)

"""Packages on Core ML itself, on this Mac or on a connected iPhone: golden vectors, chosen devices, latency in one go.

    python export/coreml_device.py [--on iphone] [--variant V] [--network N] [--precision P] [--json FILE]

does the same as `deeplens device`. coremltools builds, signs and starts a small app on the phone, which runs the
package there (Xcode is needed, and a phone in developer mode).
"""

import asyncio
import platform
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from deeplens.console.errors import InputError, MismatchError, MissingError, one_line
from deeplens.console.options import JsonTarget
from deeplens.console.report import console_for, table, write_json
from deeplens.console.script import run_script
from deeplens.export import golden as golden_vectors
from deeplens.export.coreml_recipe import recipe_of
from deeplens.export.golden import GATES, Golden, agreement
from deeplens.export.placement import UNITS, devices
from deeplens.model.whole_contract import WHOLE_NETWORKS
from deeplens.runtimes import folders, manifest
from deeplens.runtimes.coreml.program import import_coremltools
from deeplens.runtimes.options import Artifacts, Trust

if TYPE_CHECKING:
    from coremltools.models.ml_program.experimental.async_wrapper import MLModelAsyncWrapper
    from coremltools.models.ml_program.experimental.remote_device import Device

PLACES = ("mac", "iphone", "ipad")

WARM_UP = 0.2
"""Seconds of predictions that are not counted."""

COLUMNS = ("package", "agreement, dB", "gate", "load, ms", "p50, ms", "p90", "p99", "min", "runs", "preferred devices")


@dataclass(frozen=True)
class Latency:
    """Milliseconds of predictions, as Core ML measured them on the device: what a phone is sent costs nothing here."""

    p50: float
    p90: float
    p99: float
    minimum: float
    runs: int

    @staticmethod
    def of(samples: Sequence[float]) -> "Latency":
        """From milliseconds of each run, one or more."""
        p50, p90, p99 = (float(np.percentile(samples, share)) for share in (50, 90, 99))
        return Latency(p50, p90, p99, float(min(samples)), len(samples))


@dataclass(frozen=True)
class Result:
    """What one package did.

    Attributes:
        package: its path in the artefact folder.
        agreement: with PyTorch in float32 on the golden vectors, in dB (`golden.agreement`).
        gate: the smallest agreement allowed; None where there is none.
        load: milliseconds until the package was ready, compiled beforehand.
        latency: of predictions on the golden inputs.
        preferred: device → operations that Core ML prefers to run there; empty where it does not say.
    """

    package: str
    agreement: float
    gate: float | None
    load: float
    latency: Latency
    preferred: Mapping[str, int]

    @property
    def passed(self) -> bool:
        return self.gate is None or self.agreement >= self.gate

    def row(self) -> tuple[object, ...]:
        """As `COLUMNS` says."""
        latency = self.latency
        times = (f"{value:.2f}" for value in (self.load, latency.p50, latency.p90, latency.p99, latency.minimum))
        where = ", ".join(f"{device} {count}" for device, count in self.preferred.items()) or "–"
        gate = "–" if self.gate is None else f"≥ {self.gate:g}"
        return (Path(self.package).stem, f"{self.agreement:.1f}", gate, *times, latency.runs, where)


def selected(
    folder: Path, *, variants: Sequence[str], networks: Sequence[str], precisions: Sequence[str]
) -> list[manifest.Entry]:
    """The Core ML packages in the manifest of `folder`; an empty sequence allows all.

    Those of the whole effect are left out: no golden vectors are written for them.

    Raises:
        MissingError: there is none.
    """
    entries = [
        entry
        for entry in manifest.read(folder)
        if entry.runtime == "coreml"
        and entry.network not in WHOLE_NETWORKS
        and all(
            not allowed or value in allowed
            for value, allowed in ((entry.variant, variants), (entry.network, networks), (entry.precision, precisions))
        )
    ]
    if not entries:
        raise MissingError(f"{folder} has no Core ML packages of this kind: run `deeplens export coreml`")
    return entries


@dataclass(frozen=True)
class Place:
    """Where Core ML runs: this Mac, or a device that is connected to it.

    Attributes:
        name: for reports.
        device: a prepared device; None: this Mac.
    """

    name: str
    device: "Device | None" = None

    @property
    def takes_images(self) -> bool:
        """Whether packages with image inputs can be run: coremltools sends arrays only to a device."""
        return self.device is None

    def model(self, package: Path, *, function: str | None, units: str) -> "MLModelAsyncWrapper":
        """coremltools' wrapper of a package, not loaded yet.

        Args:
            function: of a package with several; None: its only one.
            units: one of `export.placement.UNITS`.
        """
        ct = import_coremltools()
        from coremltools.models.ml_program.experimental.async_wrapper import MLModelAsyncWrapper

        return MLModelAsyncWrapper.from_spec_or_path(
            spec_or_path=str(package),
            weights_dir=str(package / "Data" / "com.apple.CoreML" / "weights"),
            compute_units=ct.ComputeUnit[UNITS[units]],
            function_name=function,
            device=self.device,
        )


async def check(folder: Path, entry: manifest.Entry, *, units: str, place: Place, seconds: float, runs: int) -> Result:
    """Run one package: its golden vectors, the devices that Core ML chooses, its latency.

    Args:
        folder: of the artefacts.
        units: one of `export.placement.UNITS`.
        place: where it runs.
        seconds, runs: predictions are timed for at least so long and so often.

    Raises:
        MissingError, MismatchError: the package or its vectors are not there, or not what they should be; Core ML
            refuses the package, or its output is of another shape or not finite.
    """
    path = manifest.verify(folder, entry)
    golden = golden_vectors.read(folder / entry.more["golden"])
    if golden.weights_sha256 != entry.weights_sha256:
        raise MismatchError(f"the golden vectors beside {path} belong to other weights: export the package again")
    recipe = recipe_of(entry)
    function = next(iter(recipe.functions))
    model = place.model(path, function=function if recipe.shapes == "multifunction" else None, units=units)
    try:
        await model.load()
        name, expected = next(iter(golden.outputs.items()))
        inputs = _inputs(golden, entry)
        found = np.asarray((await model.predict(inputs))[name])
        samples = await _timed(model, inputs, seconds=seconds, runs=runs)
    except (RuntimeError, ValueError) as error:  # what coremltools makes of Core ML's own errors
        raise MismatchError(f"Core ML refuses {path} ({' '.join(str(error).split())}): export it again") from error
    try:
        chosen = devices(await model.retrieve_compute_plan())
    except (RuntimeError, ValueError):  # systems before macOS 14.4 and iOS 17.4 make none
        chosen = {}
    return Result(
        package=entry.path,
        agreement=agreement(found, expected),
        gate=GATES.get(entry.precision),
        load=(model.load_duration_in_nano_seconds or 0) / 1e6,
        latency=Latency.of(samples),
        preferred=dict(Counter(where for (owner, _), where in chosen.items() if owner == function)),
    )


def _inputs(golden: Golden, entry: manifest.Entry) -> dict[str, Any]:
    """The golden inputs as the package takes them."""
    from PIL import Image

    inputs: dict[str, Any] = {}
    for tensor in entry.inputs:
        array = golden.inputs[tensor.name]
        if tensor.name in entry.more["images"]:
            inputs[tensor.name] = Image.fromarray(np.rint(255 * array[0].transpose(1, 2, 0)).astype(np.uint8))
        else:
            inputs[tensor.name] = array.astype(tensor.dtype)
    return inputs


async def _timed(model: "MLModelAsyncWrapper", inputs: dict[str, Any], *, seconds: float, runs: int) -> list[float]:
    """Milliseconds of each prediction, after `WARM_UP`."""
    start = time.perf_counter()
    while time.perf_counter() - start < WARM_UP:
        await model.predict(inputs)
    samples: list[float] = []
    start = time.perf_counter()
    while len(samples) < runs or time.perf_counter() - start < seconds:
        await model.predict(inputs)
        samples.append(model.last_predict_duration_in_nano_seconds / 1e6)
    return samples


async def prepared(place: str, *, team: str) -> "Device":
    """The first connected device of a kind, with coremltools' app running on it.

    Args:
        place: "iphone" or "ipad".
        team: Apple's identifier of the development team that signs the app.

    Raises:
        MissingError: none is connected, or Xcode's tools are missing or fail.
    """
    import_coremltools()
    from coremltools.models.ml_program.experimental.remote_device import AppSigningCredentials, Device, DeviceType

    try:
        found = Device.get_connected_devices(DeviceType(place))
        if not found:
            raise MissingError(
                f"no {place} is connected: plug it in, unlock it, trust this Mac and turn on developer mode"
            )
        return await found[0].prepare_for_model_debugging(credentials=AppSigningCredentials(development_team=team))
    except MissingError:
        raise
    except Exception as error:  # ValueError, and coremltools' own for what Xcode's tools report
        reason = one_line(error)
        raise MissingError(f"the {place} can't be used ({reason}): check Xcode, --team and developer mode") from error


async def check_all(
    folder: Path, entries: Sequence[manifest.Entry], *, place: Place, units: str, seconds: float, runs: int
) -> list[Result]:
    """Run every package that `place` takes in turn; see `check`."""
    return [
        await check(folder, entry, units=units, place=place, seconds=seconds, runs=runs)
        for entry in entries
        if place.takes_images or not entry.more["images"]
    ]


async def opened(on: str, *, team: str, folder: Path) -> Place:
    """The place that `--on` names, one of `PLACES`, ready to run packages.

    Args:
        team: as in `prepared`.
        folder: of the artefacts, for the message.

    Raises:
        MissingError: this is no Mac; else as `prepared`.
    """
    if sys.platform != "darwin":
        raise MissingError(f"Core ML runs on macOS only: copy {folder} to a Mac and run `deeplens device` there")
    if on == "mac":
        return Place(platform.platform())
    device = await prepared(on, team=team)
    return Place(f"{device.name}, {device.os_version} ({device.os_build_number})", device)


def command(
    on: Annotated[
        str,
        typer.Option(
            metavar="PLACE",
            help=f"Where to run: {', '.join(PLACES)} (mac is this Mac, the others are connected to it).",
        ),
    ] = "mac",
    team: Annotated[
        str, typer.Option(metavar="ID", help="Apple development team that signs the test app for a phone.")
    ] = "",
    variant: Annotated[
        list[str] | None,
        typer.Option(
            metavar="VARIANT", help="Variant of the networks: edge or paper; may be repeated.", show_default="all"
        ),
    ] = None,
    network: Annotated[
        list[str] | None, typer.Option(metavar="NETWORK", help="Network to check; may be repeated.", show_default="all")
    ] = None,
    precision: Annotated[
        list[str] | None,
        typer.Option(metavar="PRECISION", help="Precision to check; may be repeated.", show_default="all"),
    ] = None,
    compute_units: Annotated[
        str, typer.Option(metavar="UNITS", help=f"Compute units that Core ML may use: {', '.join(UNITS)}.")
    ] = "all",
    seconds: Annotated[
        float, typer.Option(metavar="SECONDS", min=0, help="Time each package for at least this many seconds.")
    ] = 3.0,
    runs: Annotated[int, typer.Option(metavar="N", min=1, help="Time at least this many runs.")] = 100,
    artifacts: Artifacts = None,
    _trust: Trust = None,
    json: JsonTarget = None,
) -> None:
    """Check and time Core ML packages on a Mac, phone or tablet. Exit status 5 if a check fails."""
    if on not in PLACES:
        raise InputError(f"unknown place '{on}': choose {', '.join(PLACES)}")
    if compute_units not in UNITS:
        raise InputError(f"unknown compute units '{compute_units}': choose {', '.join(UNITS)}")
    folder = folders.opened_folder("coreml", artifacts=artifacts)
    entries = selected(folder, variants=variant or (), networks=network or (), precisions=precision or ())

    async def checked() -> tuple[str, list[Result]]:
        place = await opened(on, team=team, folder=folder)
        return place.name, await check_all(
            folder, entries, place=place, units=compute_units, seconds=seconds, runs=runs
        )

    name, results = asyncio.run(checked())
    title = f"Core ML on {name}, compute units: {compute_units}"
    console_for(json).print(table(title, COLUMNS, [result.row() for result in results]))
    failed = [result.package for result in results if not result.passed]
    write_json(
        json,
        {
            "ok": not failed,
            "device": name,
            "compute_units": compute_units,
            "packages": [{**asdict(result), "ok": result.passed} for result in results],
        },
    )
    if failed:
        raise MismatchError(f"{len(failed)} of {len(results)} packages fail their check, the first is {failed[0]}")


if __name__ == "__main__":
    run_script(command)

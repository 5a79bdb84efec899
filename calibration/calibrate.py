"""From photos to a precision plan: inputs, statistics, scales, sensitivities, search. Each part keeps what it made."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deeplens.calibration import inputs, scales, statistics
from deeplens.calibration.calibrators import CALIBRATORS
from deeplens.calibration.photos import Photo, set_sha256
from deeplens.calibration.quality import Judge, decibels
from deeplens.calibration.scales import Scales
from deeplens.calibration.search import Assignment, Costs, Search, cheapest, costs, ordered
from deeplens.calibration.sensitivity import Notebook, Unit, measure
from deeplens.console.errors import InputError
from deeplens.console.files import replacing
from deeplens.console.progress import progress_bar
from deeplens.export.layers import REST, Layer, layers, rest_operations
from deeplens.export.planned import planned_graph
from deeplens.export.precision_plan import Choice, Pair, Plan, Source
from deeplens.export.trt_graph import fp32
from deeplens.model.contract import NETWORKS
from deeplens.runtimes.artefact import load as load_artefact
from deeplens.runtimes.ort import OnnxRuntime

if TYPE_CHECKING:
    import onnx

    from deeplens.model.shipped import Weights

Report = Callable[[str], None]

DEFAULT_SETTINGS = inputs.Settings()


@dataclass(frozen=True)
class Goal:
    """What is searched for.

    Attributes:
        floor: PSNR in dB that the plan's INT8, FP16 and FP32 keep on every photo of the search.
        fp16_floor: the same of FP16 with exceptions in FP32.
        judges: how many of the photos, of the largest, judge.
        longest: long side at which they do, in pixels.
    """

    floor: float = 50.0
    fp16_floor: float = 60.0
    judges: int = 3
    longest: int = 1024


@dataclass
class Calibration:
    """One variant, opened in FP32.

    Attributes:
        variant: as in `model.contract`.
        runtime: FP32.
        models, layers: network → its FP32 graph, its layers.
        source: what is measured on.
        folder: where everything is kept.
    """

    variant: str
    runtime: OnnxRuntime
    models: "Mapping[str, onnx.ModelProto]"
    layers: Mapping[str, Sequence[Layer]]
    photos: Sequence[Photo]
    source: Source
    folder: Path
    settings: inputs.Settings
    _statistics: "dict[str, statistics.Statistics] | None" = field(default=None, repr=False)

    def file(self, name: str) -> Path:
        """VARIANT_NAME in the folder."""
        return self.folder / f"{self.variant}_{name}"

    def statistics(self, report: Report) -> dict[str, statistics.Statistics]:
        """What all tensors hold, from inputs that are made where they are missing; measured once a call."""
        if self._statistics is None:
            count = len(self.photos)
            made = [0]
            with progress_bar("Running the photos in FP32") as progress:

                def said(done: int, new: int) -> None:
                    made[0] = new
                    progress(done / count, f"{done} of {count} photos")

                files = inputs.collect(
                    self.photos,
                    self.runtime,
                    self.source.weights,
                    folder=self.folder / "inputs",
                    settings=self.settings,
                    progress=said,
                )
            report(f"inputs of {count} photos, {made[0]} of them made now")
            with progress_bar("Measuring what tensors hold") as progress:
                numbered = progress.each(list(enumerate(files, 1)), lambda each: f"photo {each[0]} of {count}")
                every = (each for _, file in numbered for each in inputs.read([file]))
                self._statistics = statistics.measure(dict(self.models), every, self._open)
            with replacing(self.file("statistics.json")) as file:
                text = json.dumps({"source": asdict(self.source), "tensors": statistics.report(self._statistics)})
                file.write((text + "\n").encode())
        return self._statistics

    def scales(self, report: Report, *, anew: bool) -> Scales:
        """The scales in the folder where they are of these photos and weights, else new ones.

        Args:
            anew: also in place of those of other photos or weights.

        Raises:
            MismatchError: what is there was measured on other photos or weights.
        """
        path = self.file("scales.json")
        if path.is_file() and not anew:
            found = scales.read(path)
            found.source.check(self.source, what=str(path))
            report(f"scales of these photos and weights already exist: {path}")
            return found
        held = self.statistics(report)
        with progress_bar("Choosing the scales"):
            found = scales.measured(self.variant, self.source, held, self.models, self.layers)
        found.write(path)
        return found

    def graphs(self, choices: Mapping[str, Mapping[str, Choice]]) -> "dict[str, onnx.ModelProto]":
        """Network → the graph that its choices ask for; networks all in FP32 are left out."""
        return {
            network: planned_graph(self.models[network], network, own)
            for network, own in choices.items()
            if any(each.precision != "fp32" for each in own.values())
        }

    def _open(self, model: "onnx.ModelProto") -> Any:
        return self.runtime.open_graph(model.SerializeToString())


def opened(
    variant: str,
    photos: Sequence[Photo],
    *,
    artifacts: Path,
    folder: Path,
    weights: "Weights" = "shipped",
    settings: inputs.Settings = DEFAULT_SETTINGS,
) -> Calibration:
    """A variant's FP32 graphs, exported where they are missing, ready to be calibrated.

    Raises:
        MissingError: weights or a library are not there.
    """
    import onnx

    models = {}
    for network in NETWORKS:
        _, entry = fp32(variant, network, out=artifacts, weights=weights)
        models[network] = onnx.load_from_string(load_artefact(artifacts, entry))
    runtime = OnnxRuntime(variant=variant, artifacts=artifacts)
    hashes = {network: runtime.open(network).entry.weights_sha256 for network in NETWORKS}
    source = Source(set_sha256(photos), len(photos), asdict(settings), hashes)
    own = {network: layers(model, network) for network, model in models.items()}
    folder.mkdir(parents=True, exist_ok=True)
    return Calibration(variant, runtime, models, own, photos, source, folder, settings)


@dataclass(frozen=True)
class Found:
    """What a search found.

    Attributes:
        plan: the plan.
        costs: of every layer.
        errors: of every layer alone.
        methods: network → calibrator, "+ bias" where biases are corrected → PSNR in dB with all its layers in INT8.
        scales: network → path → those of the best.
        mixed, half: the two searches, and how many layers each raised.
        tried: name → its assignment and PSNR in dB: all INT8, all FP16, the plan, FP16 with exceptions.
    """

    plan: Plan
    costs: Costs
    errors: Mapping[Unit, Sequence[float]]
    methods: Mapping[str, Mapping[str, float]]
    scales: Mapping[str, Mapping[str, Pair]]
    mixed: Search
    half: Search
    tried: Mapping[str, tuple[Assignment, float]]


def searched(calibration: Calibration, found: Scales, goal: Goal, report: Report) -> Found:
    """Measure what each layer costs the picture, and search for the plan.

    Raises:
        InputError: no photo is large enough to judge by.
    """
    with progress_bar("Refocusing the photos that judge in FP32"):
        judge = Judge(calibration.runtime, judges_of(calibration.photos, goal), longest=goal.longest)
    said = {"source": asdict(calibration.source), "goal": asdict(goal), "layers": found.layers}
    key = hashlib.sha256(json.dumps(said, sort_keys=True, default=dict).encode()).hexdigest()[:16]
    notebook = Notebook(calibration.file("errors.jsonl"), key)
    methods, chosen, biases = _methods(calibration, found, judge, notebook, report)

    with progress_bar("Measuring each layer alone") as progress:
        errors = measure(
            calibration.models,
            calibration.layers,
            chosen,
            judge,
            notebook,
            progress=lambda done, count: progress(done / count, f"{done} of {count} sensitivities"),
        )
    report(f"{len(errors)} sensitivities")
    cost = costs(
        calibration.layers, {network: rest_operations(model, network) for network, model in calibration.models.items()}
    )

    def choices(assigned: Assignment) -> dict[str, dict[str, Choice]]:
        result: dict[str, dict[str, Choice]] = {network: {} for network in calibration.layers}
        for (network, path), precision in assigned.items():
            alone = {
                each: decibels(errors[network, path, each])
                for each in ("int8", "fp16")
                if (network, path, each) in errors
            }
            int8 = precision == "int8"
            pair = chosen[network][path] if int8 else None
            bias = biases.get(network, {}).get(path, ()) if int8 else ()
            result[network][path] = Choice(precision, pair, bias, alone)
        return result

    def tried(assigned: Assignment) -> list[float]:
        name = hashlib.sha256(json.dumps(sorted(assigned.items())).encode()).hexdigest()[:16]
        return notebook.measured(f"plan/{name}", lambda: judge.errors(calibration.graphs(choices(assigned))))

    mixed = ordered(("int8", "fp16", "fp32"), errors, cost)
    with progress_bar("Searching for the plan"):
        raised = cheapest(mixed, tried, floor=goal.floor)
    report(f"{raised} layers raised for {goal.floor:g} dB: {decibels(mixed.tried[raised]):.1f} dB")
    half = ordered(("fp16", "fp32"), errors, cost)
    with progress_bar("Searching for FP16's exceptions"):
        exceptions = cheapest(half, tried, floor=goal.fp16_floor)
    report(f"FP16 with {exceptions} exceptions for {goal.fp16_floor:g} dB: {decibels(half.tried[exceptions]):.1f} dB")
    named = {
        "all INT8": mixed.at(0),
        "all FP16": half.at(0),
        "the plan": mixed.at(raised),
        "FP16 with exceptions": half.at(exceptions),
    }
    plan = Plan(
        calibration.variant,
        calibration.source,
        {network: max(each, key=lambda name: each[name]) for network, each in methods.items()},
        goal.floor,
        decibels(mixed.tried[raised]),
        choices(mixed.at(raised)),
        exceptions={
            network: tuple(
                path for (own, path), each in half.at(exceptions).items() if own == network and each == "fp32"
            )
            for network in calibration.layers
        },
    )
    return Found(
        plan,
        cost,
        errors,
        methods,
        chosen,
        mixed,
        half,
        {name: (each, decibels(tried(each))) for name, each in named.items()},
    )


def judges_of(photos: Sequence[Photo], goal: Goal) -> list[Photo]:
    """The photos whose long side is at least `goal.longest`, `goal.judges` of them, by SHA-256."""
    found = []
    for each in photos:
        if max(each.size) >= goal.longest:
            found.append(each)
        if len(found) == goal.judges:
            return found
    if not found:
        raise InputError(
            f"no photo has a side of {goal.longest} pixels or more: add such a photo, or give a smaller --size"
        )
    return found


def _methods(
    calibration: Calibration, found: Scales, judge: Judge, notebook: Notebook, report: Report
) -> tuple[dict[str, dict[str, float]], dict[str, dict[str, Pair]], dict[str, Mapping[str, tuple[float, ...]]]]:
    """All layers of a network in INT8 by each calibrator, and by the best one with biases corrected.

    Returns:
        network → method → PSNR in dB, network → scales of the best, network → corrections where these help.
    """
    tried: dict[str, dict[str, float]] = {}
    chosen, biases = {}, {}
    for network, own in calibration.layers.items():

        def error(
            name: str,
            pairs: Mapping[str, Pair],
            shifts: Mapping[str, tuple[float, ...]],
            network: str = network,
            own: Sequence[Layer] = own,
        ) -> float:
            choices = {each.path: Choice("int8", pairs[each.path], shifts.get(each.path, ())) for each in own}
            choices[REST] = Choice("fp32")
            return decibels(
                notebook.measured(f"{network}/all/{name}", lambda: judge.errors(calibration.graphs({network: choices})))
            )

        with progress_bar(f"Trying {network} all in INT8") as progress:
            names = progress.each(list(CALIBRATORS))
            tried[network] = {name: error(name, found.of(network, name), {}) for name in names}
            best = max(tried[network], key=lambda name: tried[network][name])
            chosen[network] = found.of(network, best)
            shifts = found.shifts[network]
            progress.now("biases corrected")
            tried[network][f"{best} + bias"] = error(f"{best} + bias", chosen[network], shifts)
        if tried[network][f"{best} + bias"] > tried[network][best]:
            biases[network] = shifts
        report(f"{network} all in INT8: " + ", ".join(f"{name} {each:.1f} dB" for name, each in tried[network].items()))
    return tried, chosen, biases

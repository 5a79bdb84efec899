"""Cases → producers → rows: all in one go, or collected into a folder here and compared elsewhere."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from deeplens.console.errors import InputError, MismatchError, MissingError
from deeplens.console.progress import progress_bar
from deeplens.model.contract import NETWORKS
from deeplens.parity_tests import collection as folders
from deeplens.parity_tests.candidates import Candidate
from deeplens.parity_tests.cases import Case, made_depth, photo_cases, random_cases, whole_photos
from deeplens.parity_tests.collection import Collection, Produced, Role
from deeplens.parity_tests.compare import NETWORK, Row, compare
from deeplens.parity_tests.machine import machine, tools
from deeplens.parity_tests.outputs import Outputs
from deeplens.parity_tests.produce import Opener, TorchKind, produce, torch_opener
from deeplens.parity_tests.report import Report, looks_of
from deeplens.parity_tests.request import Request
from deeplens.parity_tests.whole import whole_cases
from deeplens.runtimes.contract import Runtime
from deeplens.runtimes.harness import Harness

if TYPE_CHECKING:
    pass

ROLES: dict[Role, TorchKind] = {"reference": "float32", "judge": "float64", "half": "float16"}


def run(request: Request) -> Report:
    """Compare each runtime with PyTorch, for each variant, here and now.

    Raises:
        InputError: an unknown variant, runtime or precision, or a photo that can't be read.
        MissingError: PyTorch is not installed.
        MismatchError: PyTorch itself gave values that are not finite.
    """
    chosen = request.candidates()
    report = Report((), request.photo.name if request.photo else None, tools(), machine=machine())
    for variant in request.variants:
        try:
            with progress_bar(f"Making inputs of {variant}"):
                cases = _cases(request, variant)
        except MissingError as error:
            need = f"the reference: {error}"
            rows = tuple(not_run(variant, each.label, "all", need) for each in chosen)
            report = replace(report, rows=report.rows + rows)
            continue
        sides = _Reference(lambda role, v=variant, c=cases: _torch(request, v, role, c))  # type: ignore[misc]
        for each in chosen:
            report = _compared(report, variant, cases, sides, _candidate(request, variant, each, cases))
            if request.photo is None:
                note = not_run(variant, each.label, "real inputs and the loop", "a photo: --photo FILE")
                report = replace(report, rows=(*report.rows, note))
        if request.compiles:
            report = replace(report, rows=report.rows + _compiled(request, variant))
    return report


def collect(request: Request, folder: Path, *, inputs: Path | None = None) -> Collection:
    """Run the producers and write what they gave to `folder`; nothing is compared.

    Where PyTorch is installed, and no inputs are given, the reference, the judge and FP16 are among them.

    Args:
        inputs: the folder of an earlier collection, whose inputs are taken. Without them a machine that has no PyTorch
            makes random ones, and can't give the networks what they get from a photo.

    Raises:
        as `run`; also what `parity_tests.collection.read` and `write` raise.
    """
    chosen = request.candidates()
    earlier = None if inputs is None else folders.read(inputs)
    all_cases: dict[str, list[Case]] = {}
    produced: list[Produced] = []
    no_roles: list[Role] = []
    for variant in request.variants:
        if earlier is not None:
            if variant not in earlier.cases:
                raise InputError(f"{inputs} has no inputs for {variant}, only for {', '.join(earlier.cases)}")
            cases, roles = earlier.cases[variant], no_roles
        else:
            with progress_bar(f"Making inputs of {variant}"):
                cases, roles = _cases_anywhere(request, variant)
        all_cases[variant] = cases
        produced += [_torch(request, variant, role, cases) for role in roles]
        produced += [_candidate(request, variant, each, cases) for each in chosen]
    photo = request.photo.name if request.photo else earlier.photo if earlier else None
    compiled: list[Row] = []
    if request.compiles:
        compiled = [row for variant in request.variants for row in _compiled(request, variant)]
    made = Collection(all_cases, produced, photo, machine(), tools(), compiled)
    folders.write(folder, made)
    return made


def compare_collections(paths: Sequence[Path]) -> Report:
    """Compare all that was collected with the one reference among it.

    Raises:
        MissingError: no collection holds a reference.
        MismatchError: inputs or weights are not those of the reference: numbers would mean nothing.
        as `parity_tests.collection.read`.
    """
    found = [(path, folders.read(path)) for path in paths]
    variants = list(dict.fromkeys(variant for _, each in found for variant in each.cases))
    report = Report((), next((each.photo for _, each in found if each.photo), None), {}, machine="")
    machines: dict[str, None] = {}
    for variant in variants:
        home = next(((path, each) for path, each in found if _side(each, variant, "reference")), None)
        if home is None:
            raise MissingError(
                f"no collection has PyTorch's own results of {variant}: collect on a machine with PyTorch too "
                "(deeplens parity --collect DIR --runtime torch), and the others with --inputs DIR"
            )
        place, base = home
        sides = _Reference(lambda role, b=base, v=variant: _side(b, v, role))  # type: ignore[misc]
        for path, each in found:
            mine = [one for one in each.produced if one.variant == variant and one.role == "candidate"]
            if not mine and not each.compiled:
                continue
            _check_inputs(path, each, place, base, variant)
            machines[each.machine] = None
            report = replace(report, tools={**each.tools, **report.tools})
            for one in mine:
                _check_weights(path, one, place, sides.get("reference"))
                cases = [case for case in base.cases[variant] if case.name in one.cases]
                report = _compared(report, variant, cases, sides, one)
            own = tuple(row for row in each.compiled if row.variant == variant)
            report = replace(report, rows=report.rows + own)
    return replace(report, machine="; ".join(machines))


def _compiled(request: Request, variant: str) -> tuple[Row, ...]:
    from deeplens.parity_tests.compiles import compile_rows

    with progress_bar(f"Compiling {variant} with TensorRT for RTX"):
        return tuple(compile_rows(request, variant))


class _Reference:
    """PyTorch's sides, each made when it is first asked for."""

    def __init__(self, make: "Callable[[Role], Produced | None]") -> None:
        self._make = make
        self._made: dict[str, Produced | None] = {}

    def get(self, role: Role) -> Produced | None:
        if role not in self._made:
            self._made[role] = self._make(role)
        return self._made[role]

    def outputs(self, role: Role) -> Outputs | None:
        made = self.get(role)
        return None if made is None else made.outputs


def _compared(report: Report, variant: str, cases: list[Case], sides: _Reference, made: Produced) -> Report:
    chosen = [case for case in cases if case.name in made.cases]
    reasons = [made.outputs.missing.get(case.name) for case in chosen]
    if reasons and all(reasons):  # nothing ran: one row says it, with the first of the reasons
        row = not_run(variant, made.label, "all", str(reasons[0]))
        return replace(report, rows=(*report.rows, row))
    reference, judge = sides.outputs("reference"), sides.outputs("judge")
    if reference is None or judge is None:
        raise MissingError(f"PyTorch's own results of {variant} in float32 and float64 are missing: collect them again")
    half = None if made.precision == "fp32" else sides.outputs("half")
    with progress_bar(f"Comparing {variant}, {made.label}") as progress:
        rows = [
            row
            for case in progress.each(chosen, lambda case: case.name)
            for row in compare(
                variant,
                made.label,
                [case],
                candidate=made.outputs,
                reference=reference,
                judge=judge,
                half=half,
                precision=made.precision,
            )
        ]
    looks = looks_of(variant, made.label, chosen, made.outputs, reference)
    return replace(
        report,
        rows=(*report.rows, *rows),
        looks=(*report.looks, *looks),
        artifacts={**report.artifacts, **made.outputs.artifacts},
        seconds={**report.seconds, f"{variant} {made.label}": made.seconds},
    )


def _cases(request: Request, variant: str) -> list[Case]:
    """All cases of a variant, also of networks without weights: their rows say so.

    Where the depth network has none the loop begins behind it, on a depth map that is made by a rule; where another has
    none there are no real inputs.

    Raises:
        MissingError: PyTorch is not installed, or no network has weights.
    """
    coverage, pixels = request.coverage_for(variant), request.pixels()
    cases = random_cases(coverage)
    with torch_opener(variant, weights=request.weights, fixed_size=coverage.fixed_size)("dynamic") as torch:
        without = _without_weights(torch)
        if pixels is None:
            return cases
        given = made_depth() if "depth" in without else None
        if without - {"depth"}:
            return cases + whole_photos(coverage, pixels, given=given)
        cases += photo_cases(coverage, torch, pixels, given=given)
        whole = request.pixels(reduced=False)
        assert whole is not None
        sizes, with_depth = request.whole, request.with_depth
        return cases + whole_cases(coverage, torch, whole, sizes, with_depth=with_depth, given=given)


def _without_weights(torch: Runtime) -> set[str]:
    """The networks that have none; MissingError if that is all of them."""
    reasons = {}
    for network in NETWORKS:
        try:
            torch.open(network)
        except MissingError as error:
            reasons[network] = error
    if len(reasons) == len(NETWORKS):
        raise next(iter(reasons.values()))
    return set(reasons)


def _cases_anywhere(request: Request, variant: str) -> tuple[list[Case], list[Role]]:
    """All cases and PyTorch's roles; without PyTorch those cases that need none."""
    try:
        return _cases(request, variant), list(ROLES)
    except MissingError as error:
        request.report(f"{variant}: PyTorch is missing, so only random inputs and whole photos are run ({error})")
    coverage, pixels = request.coverage_for(variant), request.pixels()
    cases = random_cases(coverage)
    if pixels is not None:
        cases += whole_photos(coverage, pixels)
    return cases, []


def _torch(request: Request, variant: str, role: Role, cases: list[Case]) -> Produced:
    coverage = request.coverage_for(variant)
    opener = torch_opener(variant, weights=request.weights, fixed_size=coverage.fixed_size, dtype=ROLES[role])
    return _timed(request, variant, f"PyTorch in {ROLES[role]}", "fp32", role, opener, cases)


def _candidate(request: Request, variant: str, candidate: Candidate, cases: list[Case]) -> Produced:
    fixed = next((case.size for case in cases if case.graph == "fixed" and case.networks == ("upsample",)), None)
    opener = candidate.opener(
        variant,
        artifacts=request.artifacts,
        weights=request.weights,
        fixed_size=fixed or request.coverage_for(variant).fixed_size,
    )
    chosen, around = candidate.chosen(cases), candidate.around
    return _timed(request, variant, candidate.label, candidate.rounding, "candidate", opener, chosen, around)


def _timed(
    request: Request,
    variant: str,
    label: str,
    precision: str,
    role: Role,
    opener: Opener,
    cases: list[Case],
    around: Callable[[Runtime], Harness] = Harness,
) -> Produced:
    request.report(f"{variant}: {label}")
    start = perf_counter()
    with progress_bar(f"Running {variant}, {label}") as progress:
        outputs = produce(opener, cases, around=around, progress=progress)
    names = tuple(case.name for case in cases)
    return Produced(variant, label, precision, role, names, outputs, round(perf_counter() - start, 2))


def _side(collection: Collection, variant: str, role: Role) -> Produced | None:
    return next((each for each in collection.produced if each.variant == variant and each.role == role), None)


def _check_inputs(path: Path, other: Collection, place: Path, base: Collection, variant: str) -> None:
    due = base.hashes[variant]
    for name, sha256 in other.hashes[variant].items():
        if due.get(name) != sha256:
            there = f"{due[name][:12]}…" if name in due else "none"
            raise MismatchError(
                f"{path} ran {variant} {name} on other inputs ({sha256[:12]}…) than {place} ({there}): collect it "
                f"again with --inputs {place}"
            )


def _check_weights(path: Path, made: Produced, place: Path, reference: Produced | None) -> None:
    assert reference is not None
    for name, weights in made.outputs.weights.items():
        for network, sha256 in weights.items():
            due = reference.outputs.weights.get(name, {}).get(network, sha256)  # without one nothing is compared
            if sha256 != due:
                raise MismatchError(
                    f"{path}: {made.label} of {made.variant} {network} has weights {sha256[:12]}…, PyTorch in {place} "
                    f"{due[:12]}…: export it again from the same weights, and collect again"
                )


def not_run(variant: str, runtime: str, what: str, need: str) -> Row:
    """A row of what can't run here."""
    return Row(variant, runtime, what, "", "", (0, 0), NETWORK, "not run", f"not run: needs {need}")

"""Which runtime `--runtime auto` means on this machine: what is installed and has something to run."""

from pathlib import Path

from deeplens.console.errors import InputError, MissingError
from deeplens.console.package import pip_install
from deeplens.model.contract import part_of
from deeplens.model.shipped import Weights, has_weights
from deeplens.runtimes import depth_networks, folders, manifest, providers
from deeplens.runtimes.accelerator import CPU, DEFAULT, Accelerator
from deeplens.runtimes.spec import RUNTIMES

AUTO = "auto"

ORDER = ("trt", "coreml", "onnx", "torch")
"""Runtimes in the order in which `auto` tries them: the device's own first, PyTorch last. Others follow."""


def resolved(
    name: str,
    *,
    variant: str,
    artifacts: Path | None = None,
    weights: Weights = "shipped",
    precision: str | None = None,
    accelerator: Accelerator = DEFAULT,
) -> tuple[str, str]:
    """The runtime and the precision that are meant: "auto" and None take what this machine has.

    A provider means ONNX Runtime, a device PyTorch. A provider has an order of precisions of its own, of which the
    first is taken that has artefacts.

    Args: as in `runtimes.open_runtime`.

    Raises:
        InputError: an unknown runtime, variant or precision.
        MissingError: "auto", and nothing that is installed has what it runs.
    """
    if name != AUTO and name not in RUNTIMES:
        raise InputError(f"unknown runtime '{name}': choose {AUTO} or {' or '.join(RUNTIMES)}")
    depth_networks.check_variant(variant)
    if name == AUTO:
        name = accelerator.runtime() or AUTO
    if name == AUTO:
        name = chosen_runtime(variant=variant, artifacts=artifacts, weights=weights, precision=precision)
    spec = RUNTIMES[name]
    accelerator.check_for(name)
    provider = providers.checked(accelerator.provider)
    if provider not in (CPU, providers.AUTO) and precision is None:
        precision = _precision_of(providers.PROVIDERS[provider], variant, artifacts)
    precision = precision or spec.default_precision
    if precision not in spec.precisions:
        raise InputError(f"runtime '{name}' has no precision '{precision}': choose {' or '.join(spec.precisions)}")
    return name, precision


def _precision_of(provider: providers.Provider, variant: str, artifacts: Path | None) -> str:
    """The first of the provider's precisions that has artefacts; the last where none has."""
    for each in provider.precisions:
        if folders.folder_of(provider.artefacts, variant=variant, precision=each, artifacts=artifacts):
            return each
    return provider.precisions[-1]


def chosen_runtime(
    *,
    variant: str,
    artifacts: Path | None = None,
    weights: Weights = "shipped",
    precision: str | None = None,
) -> str:
    """The name of the first runtime that is installed, is made for this machine and has what it runs.

    Args: as in `runtimes.open_runtime`. Weights other than the shipped ones are PyTorch's to run.

    Raises:
        MissingError: there is none; the message names the shortest way to one on this machine.
    """
    for name in (*ORDER, *(name for name in RUNTIMES if name not in ORDER)):
        spec = RUNTIMES[name]
        wanted = precision or spec.default_precision
        if not spec.automatic or wanted not in spec.precisions:
            continue
        if not (spec.is_installed() and spec.is_for_this_machine()):
            continue
        if not depth_networks.can_run(variant, name, precision=wanted, artifacts=artifacts):
            continue
        if spec.reads_artifacts:
            kind, stored = spec.stored_as, spec.stored_precision(wanted)
            if weights == "shipped" and folders.folder_of(kind, variant=variant, precision=stored, artifacts=artifacts):
                return name
        elif weights != "shipped" or (artifacts is None and has_weights(part_of(variant, "lens_blur"))):
            return name
    if (depth := part_of(variant, "depth")) != (own := part_of(variant, "lens_blur")):
        chosen_runtime(variant=own, artifacts=artifacts, weights=weights, precision=precision)
        raise MissingError(
            f"no runtime here has the depth network {depth} and all networks of {own}: run `deeplens export onnx "
            f"--depth-network {depth}`, or {pip_install('depth-networks')} for PyTorch"
        )
    raise MissingError(_way_to_one(variant, artifacts, weights, precision))


def _way_to_one(variant: str, artifacts: Path | None, weights: object, precision: str | None) -> str:
    """What to do where nothing can run."""
    if weights != "shipped":
        return f"PyTorch, which runs weights of your own, is not installed: {pip_install('torch')}"
    onnx = RUNTIMES["onnx"]
    kind = f"{variant}{f' in {precision}' if precision else ''}"
    if folders.folder_of("onnx", variant=variant, precision=precision or onnx.default_precision, artifacts=artifacts):
        return f"no runtime is installed that runs the artefacts that are here: {onnx.install}"
    where = artifacts or " or ".join(str(folder) for folder in folders.search_path())
    command = manifest.export_command(
        artifacts or manifest.DEFAULT_FOLDER, variant=variant, runtime="onnx", precision=precision
    )
    missing = f"there are no artefacts of {kind} in {where}"
    if not onnx.is_installed():
        return f"{missing}, and no runtime for them is installed: {pip_install('export')}, then run `{command}`"
    if RUNTIMES["torch"].is_installed():
        return f"{missing}: run `{command}`"
    return (
        f"{missing}, and PyTorch, which could make them, is not installed: {pip_install('export')}, then run "
        f"`{command}`; or copy a folder of artefacts here and name it with --artifacts"
    )

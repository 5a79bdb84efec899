"""Where TensorRT engines can be built: the library and this machine, or a word on what is missing."""

from dataclasses import dataclass

from deeplens.console.errors import MissingError
from deeplens.export.trt_build import Options
from deeplens.export.trt_jobs import TARGETS
from deeplens.runtimes.cuda import JETSON_RELEASE, Cuda
from deeplens.runtimes.engine_key import Machine
from deeplens.runtimes.trt_api import TensorRt


@dataclass(frozen=True)
class Place:
    """Where a build runs: the library, and this machine, which is None for a build ahead of time."""

    api: TensorRt
    machine: Machine | None

    def key_machine(self, options: Options) -> Machine:
        """What an engine built here with `options` is bound to."""
        if self.machine is not None:
            return self.machine
        assert options.compute_capability is not None
        return self.api.ahead_of_time(options.compute_capability)


def place(target: str, *, command: str) -> Place:
    """Where engines for `target` can be built: here, or not.

    Args:
        command: what to run elsewhere.

    Raises:
        MissingError: the library or the GPU is not there; one line that says which command to run where.
    """
    kind = TARGETS[target]
    missing: list[str] = []
    api, machine = None, None
    try:
        api = TensorRt(kind.library)
    except MissingError as error:
        missing.append(str(error))
    if not kind.compute_capabilities:
        try:
            cuda = Cuda()
            machine = None if api is None else api.machine(cuda)
        except MissingError as error:
            missing.append(str(error))
    if api is None or missing:
        raise MissingError(
            f"{target} engines can't be built here ({'; '.join(missing)}): run `{command}` on {kind.machine}"
        )
    return Place(api, machine)


def default_target() -> str:
    """The target of this machine: `rtx`, which needs no GPU, where classic TensorRT can't build."""
    try:
        TensorRt("tensorrt")
        _, capability = Cuda().gpu
    except MissingError:
        return "rtx"
    if JETSON_RELEASE.exists():
        return "jetson-orin" if capability == "8.7" else "jetson-thor"
    return "desktop"

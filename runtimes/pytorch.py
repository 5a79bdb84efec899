"""PyTorch as a runtime: the networks as they are, on the CPU or a GPU, and in float64 the judge of all others."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from deeplens.console.errors import InputError, MissingError, one_line
from deeplens.console.package import pip_install
from deeplens.model.contract import CONTRACTS, VARIANTS, Contract, part_of
from deeplens.model.shipped import Weights
from deeplens.runtimes.accelerator import CPU, DEFAULT, Accelerator, Ran
from deeplens.runtimes.contract import Arrays, OpensOnce, Session, check_inputs
from deeplens.runtimes.device_loop import DeviceLoop
from deeplens.runtimes.fit import Fit

if TYPE_CHECKING:
    import torch

DTYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
"""Precision → PyTorch's name of the dtype that weights and activations have."""


class TorchSession(Session):
    """One network in PyTorch.

    Attributes:
        module: the network; `model.build.weights_sha256` names its weights.
        device_seconds: of an NVIDIA GPU.
    """

    def __init__(
        self,
        module: "torch.nn.Module",
        contract: Contract,
        threads: int | None,
        *,
        channels_last: bool = False,
        compiled: bool = False,
        ran: Ran | None = None,
        sha256: str | None = None,
        fit: Fit | None = None,
    ) -> None:
        """
        Args:
            channels_last: whether inputs are given with their channels last in memory, as the weights are.
            compiled: whether the first run of each size compiles.
            sha256: of the weights before they were rounded; None: as the module has them.
            fit: of a depth network of others: how photos are put into it; a native one takes any size.
        """
        self.module = module
        self.ran = ran
        self._fit = fit
        self._contract = contract
        self._threads = threads
        self._channels_last = channels_last
        self._compiled = compiled
        self._sha256 = sha256
        self.any_size = ran is not None and ran.on == CPU and not compiled
        self._closed = False

    @property
    def closed(self) -> bool:
        return self._closed

    @property
    def fit(self) -> Fit:
        return super().fit if self._fit is None else self._fit

    def describe(self) -> Contract:
        """The network's contract."""
        return self._contract

    def run(self, inputs: Mapping[str, np.ndarray]) -> Arrays:
        """Run the network once: see `runtimes.contract.Session.run`. In float64 the output is float64."""
        import torch

        if self._closed:
            raise InputError(f"{self._contract.network}: this session is closed: open the network again")
        contract = self._contract
        if self._fit is not None and self._fit.native and inputs.keys() == {"picture"}:
            height, width = inputs["picture"].shape[2:]
            contract = replace(contract, fixed_size=(height, width))
        check_inputs(contract, inputs)
        parameter = next(self.module.parameters())
        # Copies, so that no output can be a view of the caller's array.
        tensors = [
            torch.tensor(np.ascontiguousarray(inputs[each.name]), dtype=parameter.dtype, device=parameter.device)
            for each in self._contract.inputs
        ]
        with torch.inference_mode(), self.settings():
            output = self._timed(self._placed(tensors))
        dtype = torch.float64 if parameter.dtype == torch.float64 else torch.float32
        return {self._contract.outputs[0].name: output.to("cpu", dtype).contiguous().numpy()}

    def compute(self, tensors: "Sequence[torch.Tensor]") -> "torch.Tensor":
        """Run the network on tensors of its device, in the order of the contract; the output stays there.

        To be called within `settings`. Unlike `run` it waits for nothing and times nothing.
        """
        if self._closed:
            raise InputError(f"{self._contract.network}: this session is closed: open the network again")
        dtype = next(self.module.parameters()).dtype
        return self._called(self._placed([each.to(dtype) for each in tensors]))

    @property
    def device(self) -> "torch.device":
        """Where the weights are."""
        return next(self.module.parameters()).device

    @property
    def element_bytes(self) -> int:
        """Bytes of a weight, and of a value between layers."""
        return next(self.module.parameters()).element_size()

    @contextmanager
    def settings(self) -> Iterator[None]:
        """The session's number of threads, and FP32 in FP32."""
        with _thread_count(self._threads), _exact_float32():
            yield

    def _placed(self, tensors: "list[torch.Tensor]") -> "list[torch.Tensor]":
        import torch

        form = torch.channels_last if self._channels_last else torch.contiguous_format
        return [each.contiguous(memory_format=form) for each in tensors]

    def _timed(self, tensors: "list[torch.Tensor]") -> "torch.Tensor":
        """The module's output; on an NVIDIA GPU `device_seconds` is measured."""
        import torch

        events = [torch.cuda.Event(enable_timing=True) for _ in range(2)] if tensors[0].is_cuda else []
        for event in events[:1]:
            event.record()
        output = self._called(tensors)
        for event in events[1:]:
            event.record()
            event.synchronize()
            self.device_seconds = events[0].elapsed_time(event) / 1000
        return output

    def _called(self, tensors: "list[torch.Tensor]") -> "torch.Tensor":
        try:
            output: torch.Tensor = self.module(*tensors)
        except RuntimeError as error:
            if not self._compiled:
                raise
            raise MissingError(
                f"torch.compile can't compile {self._contract.network} here ({one_line(error)[:200]}): it needs a C++ "
                "compiler, and on a GPU Triton; leave out --compile"
            ) from error
        return output

    def weights_sha256(self) -> str:
        """SHA-256 of the module's weights."""
        from deeplens.model.build import weights_sha256

        return self._sha256 or weights_sha256(self.module)

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            del self.module


class TorchRuntime(OpensOnce[TorchSession]):
    """Runs the PyTorch networks of one variant.

    Args:
        variant: one of `model.contract.VARIANTS`.
        weights: as in `model.build.load`.
        threads: for one operation, while a network runs; None: as PyTorch is set.
        precision: of weights and activations, "fp32", "fp16" or "bf16"; the depth network stays in FP32. FP32 is FP32
            on a GPU too, not TF32.
        dtype: "float64" computes and answers in double precision from the same float32 inputs and weights, whatever the
            precision.
        accelerator: its `device`, `channels_last`, `compiled` and `cuda_graph` are looked at.
        native: a depth network of others that keeps the aspect ratio runs at the photo's own; False: in a frame of its
            one size, as artefacts do.

    Raises:
        InputError: an unknown precision.
        MissingError: PyTorch is not installed, or can't use the device.
    """

    name = "torch"

    def __init__(
        self,
        *,
        variant: str = "edge",
        weights: Weights = "shipped",
        threads: int | None = None,
        precision: str = "fp32",
        dtype: Literal["float32", "float64"] = "float32",
        accelerator: Accelerator = DEFAULT,
        native: bool = True,
    ) -> None:
        try:
            import torch
        except ImportError as error:
            raise MissingError(f"PyTorch can't be imported ({error}): {pip_install('torch')}") from error
        super().__init__()
        if precision not in DTYPES:
            raise InputError(f"runtime 'torch' has no precision '{precision}': choose {' or '.join(DTYPES)}")
        check_device(accelerator.device)
        self.variant = variant
        self._weights = weights
        self._threads = threads
        self._native = native
        self._dtype: torch.dtype = getattr(torch, dtype if dtype == "float64" else DTYPES[precision])
        self._device = accelerator.device
        last = accelerator.channels_last
        self._channels_last = accelerator.device != CPU if last is None else last
        self._compiled, self._graphs = accelerator.compiled, accelerator.cuda_graph

    def device_loop(
        self, pixels: np.ndarray, disparity: np.ndarray, *, tile: int | None, asked: bool
    ) -> DeviceLoop | None:
        """See `runtimes.contract.Runtime.device_loop`. On the CPU `tile` is kept to, elsewhere as memory allows."""
        if not asked and self._device == CPU:
            return None
        from deeplens.runtimes.torch_graph import CudaGraphs
        from deeplens.runtimes.torch_loop import TorchLoop

        return TorchLoop(
            {network: self.open(network) for network in ("lens_blur", "upsample")},
            VARIANTS[self.variant],
            pixels,
            disparity,
            tile=tile if self._device == CPU else None,
            record=CudaGraphs() if self._graphs else None,
        )

    def _load(self, network: str) -> TorchSession:
        from deeplens.model import build

        name = part_of(self.variant, network)
        if name not in VARIANTS:
            return self._foreign(name)
        return self._placed(build.load(name, network, self._weights), network, CONTRACTS[network])

    def _foreign(self, name: str) -> TorchSession:
        """A depth network of others, from the bytes that were hashed."""
        from deeplens.model import foreign
        from deeplens.runtimes import depth_store
        from deeplens.runtimes.depth_networks import contract_of_card, fit_of

        found = depth_store.find(name)
        module = foreign.load(found.card, found.read, found.weights.name)
        return self._placed(module, "depth", contract_of_card(found.card), fit_of(found.card, native=self._native))

    def _placed(
        self, module: "torch.nn.Module", network: str, contract: Contract, fit: "Fit | None" = None
    ) -> TorchSession:
        """A session of a module in FP32, brought to the device and the precision."""
        import torch

        from deeplens.model.build import weights_sha256

        # On noise the depth network has 38 dB in BF16 and 43 in FP16, the others 47 and 66; it runs once a photo.
        dtype = self._dtype if network != "depth" or self._dtype == torch.float64 else torch.float32
        changed = self._compiled or dtype in (torch.float16, torch.bfloat16)
        sha256 = weights_sha256(module) if changed else None
        module = module.to(self._device, dtype)
        if self._channels_last:
            module = module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if self._compiled:
            # Each shape anew, so that all are static. On an NVIDIA GPU this mode records a CUDA graph of each; within
            # the graph of a whole loop there can be none.
            mode = "reduce-overhead" if self._device == "cuda" and not self._graphs else None
            module = torch.compile(module, dynamic=False, mode=mode)  # type: ignore[assignment]
        return TorchSession(
            module,
            contract,
            self._threads,
            channels_last=self._channels_last,
            compiled=self._compiled,
            ran=Ran(self._device, f"torch {torch.__version__}"),
            sha256=sha256,
            fit=fit,
        )


def check_device(device: str) -> None:
    """Refuse a device that PyTorch can't use here.

    Raises:
        MissingError: the message says what it needs.
    """
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        built = torch.version.cuda or torch.version.hip
        why = "sees no NVIDIA GPU, or not its driver" if built else "is built without CUDA: install a build with it"
        raise MissingError(f"--device cuda: PyTorch {torch.__version__} {why}, or use --device cpu")
    if device == "mps" and not torch.backends.mps.is_available():
        raise MissingError(
            f"PyTorch {torch.__version__} sees no Metal GPU: --device mps needs a Mac with macOS 14 or newer; use "
            "--device cpu"
        )


@contextmanager
def _thread_count(threads: int | None) -> Iterator[None]:
    """PyTorch's number of threads is the process's: set it for one run, then set it back."""
    import torch

    before = torch.get_num_threads()
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _exact_float32() -> Iterator[None]:
    """FP32 in FP32 on an NVIDIA GPU, not in TF32, which has 10 bits of fraction.

    TF32 is PyTorch's own choice for convolutions, and for products of matrices where a program or an environment
    variable (`TORCH_ALLOW_TF32_CUBLAS_OVERRIDE`, as NVIDIA's containers set it) says so.
    """
    import torch

    if not torch.cuda.is_available():
        yield
        return
    rounds = torch.backends.cuda.matmul.fp32_precision == "tf32"
    on_cpu = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    before = on_cpu.fp32_precision
    if rounds:
        torch.set_float32_matmul_precision("highest")
    try:
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=False, allow_tf32=False):
            yield
    finally:
        if rounds:
            torch.set_float32_matmul_precision("high")
            on_cpu.fp32_precision = before

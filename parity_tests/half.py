"""PyTorch as it rounds in FP16: what the model itself loses there, which is the measure of what a runtime may lose.

PyTorch's own half-precision kernels take up to a minute a network on a CPU. So each operation computes in float32 and
its result is rounded to FP16, as on a device that sums in float32; weights and inputs are rounded too.
"""

from collections.abc import Mapping

import numpy as np

from deeplens.runtimes.contract import Arrays, Runtime, Session
from deeplens.runtimes.wrapped import WrappedRuntime, WrappedSession


def in_half(runtime: Runtime) -> Runtime:
    """A `runtimes.pytorch.TorchRuntime` in float32, from now on with every tensor rounded to FP16.

    It rounds the weights of its modules in place: give it a runtime of its own.
    """
    from deeplens.model.half import round_weights, rounding_mode
    from deeplens.runtimes.pytorch import TorchSession

    rounding = rounding_mode()

    def wrap(_network: str, session: Session) -> Session:
        assert isinstance(session, TorchSession)
        round_weights(session.module)

        def run(inputs: Mapping[str, np.ndarray]) -> Arrays:
            rounded = {name: array.astype(np.float16).astype(np.float32) for name, array in inputs.items()}
            with rounding:
                return session.run(rounded)

        return WrappedSession(session, run, session.describe())

    return WrappedRuntime(runtime, wrap)

"""The web page as a runtime: Chromium without a window runs the page's own code, on ONNX Runtime Web.

Needs the extra `web`, Chromium, and the built page (`make web`). It computes with the models that the page carries.
"""

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from deeplens.console.errors import InputError, MismatchError
from deeplens.model.contract import CONTRACTS, Contract
from deeplens.runtimes.accelerator import Ran
from deeplens.runtimes.contract import Arrays, OpensOnce, Session, check_inputs
from deeplens.runtimes.harness import N_MIN, Harness
from deeplens.runtimes.refocuser import Observer
from deeplens.runtimes.web_browser import Browser, evaluated
from deeplens.runtimes.web_page import MODELS, page_folder
from deeplens.runtimes.web_server import PageServer

FLAGS = {
    "wasm": (),
    "webgpu": ("--enable-unsafe-webgpu", "--enable-features=Vulkan", "--use-webgpu-adapter=swiftshader"),
}
"""Backend of ONNX Runtime Web → what Chromium needs for it on a machine without a graphics processor."""


class WebSession(Session):
    """One network in the page."""

    def __init__(self, runtime: "WebRuntime", contract: Contract, weights: str, ran: Ran | None) -> None:
        self._runtime, self._contract, self._weights, self.ran = runtime, contract, weights, ran
        self._closed = False

    @property
    def closed(self) -> bool:
        return self._closed

    def describe(self) -> Contract:
        return self._contract

    def run(self, inputs: Mapping[str, np.ndarray]) -> Arrays:
        if self._closed:
            raise InputError(f"{self._contract.network}: this session is closed: open the network again")
        check_inputs(self._contract, inputs)
        listed = {name: self._runtime.put(name, array.astype("<f4")) for name, array in inputs.items()}
        found = self._runtime.call("network", self._contract.network, listed, "result")
        self.device_seconds = found["ms"] / 1000
        return {self._contract.outputs[0].name: self._runtime.take("result", found["shape"])}

    def weights_sha256(self) -> str:
        return self._weights

    def close(self) -> None:
        self._closed = True


class WebRuntime(OpensOnce[WebSession]):
    """The networks of the page, in Chromium.

    Args:
        variant: the one that the page carries.
        backend: "wasm" or "webgpu".

    Attributes:
        isolated: whether the page has threads.

    Raises:
        MissingError: the page is not built, or Playwright or Chromium is not there.
        InputError: the page carries another variant.
        MismatchError: the page fails to start.
    """

    name = "web"

    def __init__(self, *, variant: str = "edge", backend: str = "wasm") -> None:
        super().__init__()
        folder = page_folder()
        about = json.loads((folder / MODELS / "models.json").read_text(encoding="utf-8"))
        if about["variant"] != variant:
            raise InputError(f"the web page carries {about['variant']}, not {variant}")
        self.variant = variant
        self._weights = {name: each["weights_sha256"] for name, each in about["networks"].items()}
        # Playwright may be used in one thread only, and once in it: this runtime has its own.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="chromium")
        self._server = PageServer(folder)
        self._browser: Browser | None = None
        try:
            self._page = self._thread.submit(self._opened, backend).result()
            started = self.call("start", backend)
            self.isolated: bool = started["isolated"]
            self._placed: dict[str, Any] = started["placed"]
        except BaseException:
            self.close()
            raise

    def _opened(self, backend: str) -> Any:
        """The page, ready to be driven."""
        self._browser = Browser(*FLAGS[backend])
        page = self._browser.chromium.new_page()
        page.set_default_timeout(0)
        page.goto(f"{self._server.address}?drive")
        page.wait_for_selector("html[data-drive=ready]", state="attached", timeout=60_000)
        return page

    def _load(self, network: str) -> WebSession:
        placed = self._placed.get(network)
        ran = None
        if placed is not None:
            counted = {"nodes": placed["all"], "cpu_nodes": placed["onProcessor"], "kinds": tuple(placed["kinds"])}
            ran = Ran("webgpu", "ONNX Runtime Web", **counted)
        return WebSession(self, CONTRACTS[network], self._weights[network], ran)

    def put(self, name: str, array: np.ndarray) -> dict[str, object]:
        """Lay an array where the page fetches it; returns how it is named there."""
        self._server.arrays[name] = np.ascontiguousarray(array).tobytes()
        return {"file": name, "shape": list(array.shape)}

    def take(self, name: str, shape: list[int], dtype: str = "<f4") -> np.ndarray:
        """An array that the page has posted."""
        try:
            return np.frombuffer(self._server.arrays.pop(name), dtype).reshape(shape).copy()
        except (KeyError, ValueError) as error:
            raise MismatchError(f"the page in the browser gave no {name} of {shape}: build it again") from error

    def taken(self, name: str) -> bytes:
        """The bytes that the page has posted."""
        return self._server.arrays.pop(name)

    def call(self, task: str, *arguments: object) -> Any:
        """Give the page a task of `web/page/drive.ts`; returns what it says."""
        script = f"(arguments) => deeplens.{task}(...arguments)"
        return self._thread.submit(evaluated, self._page, script, *arguments).result()

    def close(self) -> None:
        super().close()
        if self._browser is not None:
            self._thread.submit(self._browser.close).result()
            self._browser = None
        self._thread.shutdown()
        self._server.close()


class WebHarness(Harness):
    """The page's own way from photo to photo, `web/harness.ts`, in place of the Python one."""

    def __init__(self, runtime: WebRuntime, *, tile: int = 256) -> None:
        super().__init__(runtime, tile=tile)
        self._web, self._side = runtime, tile

    def disparity(self, pixels: np.ndarray) -> np.ndarray:
        """As `Harness.disparity`; the photo is made small by the page."""
        shape = self._web.call("depthPicture", self._web.put("photo", pixels), "depth_picture")
        picture = self._web.take("depth_picture", shape)
        seen = np.clip(np.rint(picture[0].transpose(1, 2, 0) * 255), 0, 255).astype(np.uint8)
        return super().disparity(seen)

    def refocus(  # type: ignore[override]  # what the page does not have is left out
        self,
        pixels: np.ndarray,
        disparity: np.ndarray,
        *,
        focal_disparity: float,
        aperture: float,
        focus_range: float = 0.0,
        observe: Observer | None = None,
    ) -> np.ndarray:
        """As `Harness.refocus`, from the base; an observer gets the outputs of the networks alone."""
        settings = {
            "focus": {"disparity": float(focal_disparity), "range": float(focus_range)},
            "fNumber": N_MIN / aperture,
        }
        photo, given = self._web.put("photo", pixels), self._web.put("map", disparity.astype("<f4"))
        for each in self._web.call("loop", photo, given, settings, self._side, "picture"):
            array = self._web.take(each["file"], each["shape"])
            if observe is not None:
                output = CONTRACTS[each["network"]].outputs[0].name
                observe(each["level"], each["network"], {output: array})
        return self._web.take("picture", list(pixels.shape), "u1")

"""The photos, depth maps and settings of the end-to-end golden vectors, made by rules from the repository's samples."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from deeplens.console.errors import MissingError
from deeplens.runtimes.photo import read_photo

SAMPLES = Path(__file__).resolve().parents[1] / "samples"


@dataclass(frozen=True)
class Setting:
    """Focus and aperture of one case.

    Attributes:
        f_number: from 1.4 up.
        focus: x and y from the top left, 0 to 1.
    """

    f_number: float
    focus: tuple[float, float]

    @property
    def name(self) -> str:
        return f"f{self.f_number:g}"


SETTINGS = (Setting(1.4, (0.7, 0.3)), Setting(2.2, (1.0, 1.0)), Setting(5.6, (0.35, 0.6)))
"""Sharp far away, at the corner, and near. The loop begins at the base with the first and at level 1 with the last.
With the second both are mixed in the larger photos."""


@dataclass(frozen=True)
class SamplePhoto:
    """One photo with its depth map.

    Attributes:
        file: in `samples/`.
        box: left, top, right, bottom of what is cut out, in pixels.
        size: width and height that it is resized to.
        map_size: height and width of the depth map.
    """

    name: str
    file: str
    box: tuple[int, int, int, int]
    size: tuple[int, int]
    map_size: tuple[int, int]

    def pixels(self, folder: Path = SAMPLES) -> np.ndarray:
        """H×W×3, uint8, sRGB.

        Raises:
            MissingError: the sample is not there.
        """
        path = folder / self.file
        if not path.is_file():
            raise MissingError(f"{path} is missing: run this in a checkout of the repository, which has samples/")
        image = Image.fromarray(read_photo(path).pixels).crop(self.box)
        return np.asarray(image if image.size == self.size else image.resize(self.size, Image.Resampling.LANCZOS))

    def disparity(self) -> np.ndarray:
        """h×w, float32, multiples of 1/255 in [0, 1]: a floor that comes nearer, a near disc and a far one."""
        height, width = self.map_size
        y, x = ((np.arange(side) + 0.5) / side for side in (height, width))
        values = np.repeat((y**2)[:, None], width, axis=1)
        for centre_x, centre_y, radius, disparity in ((0.35, 0.6, 0.2, 0.95), (0.7, 0.3, 0.13, 0.0)):
            inside = (x[None] - centre_x) ** 2 + (y[:, None] - centre_y) ** 2 <= radius**2
            values[inside] = disparity
        return (np.rint(values * 255) / 255).astype(np.float32)


PHOTOS = (
    SamplePhoto("odd", "drum.jpg", (0, 500, 1366, 1415), (467, 313), (313, 467)),
    SamplePhoto("upright", "dogs.jpg", (0, 0, 1364, 2046), (600, 900), (144, 96)),
    SamplePhoto("1024", "bridge.jpg", (0, 0, 2048, 1152), (1024, 576), (360, 640)),
    SamplePhoto("2048", "sundial.jpg", (0, 0, 2048, 1365), (2048, 1365), (320, 320)),
)
"""One step and padding, a map as fine as the photo; two steps, padding, a small map; two steps without padding, a map
as fine as level 1; three steps, a square map, shrunk for the lens blur and stretched for the last step."""

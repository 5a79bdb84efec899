"""How far two results are apart: one metric a file, its formula in its docstring.

Differences are taken in double precision; a NaN on either side gives a NaN, which no gate passes.
"""

from deeplens.parity_tests.metrics.cosine import cosine
from deeplens.parity_tests.metrics.difference import difference
from deeplens.parity_tests.metrics.max_abs import max_abs
from deeplens.parity_tests.metrics.mean_abs import mean_abs
from deeplens.parity_tests.metrics.pixel_shares import Shares, pixel_shares
from deeplens.parity_tests.metrics.psnr import psnr
from deeplens.parity_tests.metrics.relative import relative_to_spread
from deeplens.parity_tests.metrics.ssim import ssim_8_bit, ssim_if_possible
from deeplens.parity_tests.metrics.ulp import Ulps, ulps

__all__ = [
    "Shares",
    "Ulps",
    "cosine",
    "difference",
    "max_abs",
    "mean_abs",
    "pixel_shares",
    "psnr",
    "relative_to_spread",
    "ssim_8_bit",
    "ssim_if_possible",
    "ulps",
]

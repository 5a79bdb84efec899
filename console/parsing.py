"""What a person types: points, sizes and numbers for the three channels."""

import math
import re

from deeplens.console.errors import InputError


def parse_point(text: str) -> tuple[float, float]:
    """ "0.25,0.5" → (0.25, 0.5): x and y from the top left.

    Raises:
        InputError: not two numbers, or outside the picture.
    """
    try:
        x, y = (float(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"focus '{text}' is not X,Y: give two numbers from 0 to 1, such as 0.5,0.6") from None
    if not (0.0 <= x <= 1.0 and 0.0 <= y <= 1.0):
        raise InputError(f"focus '{text}' lies outside the picture: X and Y go from 0 to 1, from the top left")
    return x, y


def parse_size(text: str) -> tuple[int, int]:
    """ "2048x1536" → (2048, 1536): width and height.

    Raises:
        InputError: not two whole numbers from 1 up.
    """
    match = re.fullmatch(r"([1-9][0-9]*)[x×]([1-9][0-9]*)", text)
    if match is None:
        raise InputError(f"size '{text}' is not WxH: give two whole numbers, such as 2048x1536")
    return int(match[1]), int(match[2])


def parse_three(text: str) -> tuple[float, float, float]:
    """ "0.485,0.456,0.406" → three numbers, one for each channel; a single number stands for all three.

    Raises:
        InputError: not one or three finite numbers.
    """
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    numbers = 3 * numbers if len(numbers) == 1 else numbers
    if len(numbers) != 3 or not all(map(math.isfinite, numbers)):
        raise InputError(f"'{text}' is not R,G,B: give three numbers, such as 0.485,0.456,0.406, or one for all")
    return numbers[0], numbers[1], numbers[2]

"""`--provider` and `--device` on the command line: what can't be had is said in one line."""

from pathlib import Path

import pytest

from tests.conftest import Command
from tests.support.device import needs


@pytest.mark.parametrize(
    ("options", "status", "said"),
    [
        (["--provider", "nonsense"], 3, "unknown provider 'nonsense': choose auto or cpu"),
        (["--provider", "xnnpack"], 4, "has no provider 'xnnpack' (XnnpackExecutionProvider): no package has it"),
        (["--provider", "cuda", "--device", "cuda"], 3, "give one of them"),
        (["--runtime", "torch", "--provider", "cuda"], 3, "--provider works with --runtime onnx only"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_provider_that_can_not_be_had_is_said_in_a_line(
    deeplens: Command, photo: Path, tmp_path: Path, options: list[str], status: int, said: str
) -> None:
    out = tmp_path / "out.png"
    result = deeplens("refocus", photo, "--focus", "0.5,0.5", "-o", out, "--artifacts", tmp_path, *options)
    assert (result.status, result.err.count("\n")) == (status, 1)
    assert said in result.err
    assert not out.exists()


@pytest.mark.parametrize("command", ["rack", pytest.param("studio", marks=needs("starlette"))])
def test_rack_and_studio_take_them_too(deeplens: Command, photo: Path, tmp_path: Path, command: str) -> None:
    out = tmp_path / "out.webp"
    own = ["--from", "0.5,0.5", "--to", "0.1,0.1", "-o", out] if command == "rack" else ["--no-open", "--port", "0"]
    for options, status, said in (
        (["--provider", "xnnpack"], 4, "has no provider 'xnnpack'"),
        (["--runtime", "torch", "--provider", "cuda"], 3, "--provider works with --runtime onnx only"),
        (["--device", "nonsense"], 3, "unknown device 'nonsense'"),
    ):
        result = deeplens(command, photo, *own, "--artifacts", tmp_path, *options)
        assert (result.status, result.err.count("\n")) == (status, 1), result.err
        assert said in result.err
    assert not out.exists()

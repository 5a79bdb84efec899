"""What the workflows and the Makefile run: every command is one that exists, with options that it has.

The shell itself expands each step's script, over stand-ins that only write down how they were called. So quoting,
variables, loops and globs are those that a runner would see.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from deeplens.app import main
from deeplens.export.coreml_jobs import recipes
from deeplens.export.trt_jobs import TARGETS
from deeplens.model.contract import CONTRACTS, NETWORKS, VARIANTS
from deeplens.parity_tests.candidates import COMPARED, PRECISIONS
from tests.conftest import ROOT
from tests.support.project_file import EXTRAS

Workflow = dict[str, Any]

STAND_INS = ("deeplens", "python", "python3", "bash", "make", "cat")

ENVIRONMENT = {"GITHUB_STEP_SUMMARY": "summary.md"}

VALUES = {"--runtime": COMPARED, "--precision": PRECISIONS, "--variant": VARIANTS, "--target": tuple(TARGETS)}
"""Option → what it may be, where that is looked at only when the work begins."""

DEPENDS = re.compile(r"\b(inputs|needs)\.(\w+)")
"""In a condition."""


def _read(path: Path) -> Workflow:
    found = yaml.safe_load(path.read_text())
    return {"on" if key is True else key: value for key, value in found.items()}  # YAML 1.1 takes "on" for true


WORKFLOWS = {path.stem: _read(path) for path in sorted((ROOT / ".github" / "workflows").glob("*.yml"))}
JOBS = [(name, job) for name, workflow in WORKFLOWS.items() for job in workflow["jobs"]]


@pytest.fixture
def runner(tmp_path: Path) -> Path:
    """A folder with stand-ins, as a job's checkout has files: what is built or downloaded before lies there too."""
    script = f'#!{shutil.which("sh")}\nprintf "%s\\037" "${{0##*/}}" "$@" >> "$CALLS"; printf "\\036" >> "$CALLS"\n'
    for folder in ("bin", ".venv/bin"):
        (tmp_path / folder).mkdir(parents=True)
        for name in STAND_INS:
            path = tmp_path / folder / name
            path.write_text(script)
            path.chmod(0o755)
    for network in NETWORKS:
        for recipe in recipes(network, photo_size=(1024, 1024)):
            (tmp_path / "artifacts/coreml" / recipe.file_name("edge", CONTRACTS[network])).mkdir(parents=True)
    for machine in ("linux", "macos", "gpu", "jetson"):
        (tmp_path / "parity" / machine).mkdir(parents=True)
    return tmp_path


def calls(runner: Path, script: str, variables: dict[str, str]) -> list[list[str]]:
    """What a script runs, word by word; AssertionError where the shell can't run it."""
    (runner / "calls").unlink(missing_ok=True)
    shell = shutil.which("bash")
    assert shell is not None
    environment = {**ENVIRONMENT, **variables, "PATH": str(runner / "bin"), "CALLS": str(runner / "calls")}
    result = subprocess.run(
        [shell, "-e", "-c", script], cwd=runner, env=environment, capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stderr) == (0, ""), script
    return [each.split("\037")[:-1] for each in (runner / "calls").read_text().split("\036")[:-1]]


def check(words: list[str]) -> None:
    """Raise AssertionError unless a command is one that exists, with options that it has."""
    program, arguments = words[0], words[1:]
    match program:
        case "deeplens":
            _check_deeplens(arguments)
        case "python" | "python3":
            _check_python(arguments)
        case "bash":
            assert [(ROOT / each).is_file() for each in arguments] == [True], arguments
        case "make":
            assert make(*arguments), arguments
        case _:
            assert program == "cat", f"{program}: who checks it?"


def _check_deeplens(arguments: list[str]) -> None:
    """As the command line itself reads them: it answers a question for help only once all words are understood."""
    count = next((index for index, word in enumerate(arguments) if word.startswith("-")), len(arguments))
    assert main([*arguments[:count], "--help", *arguments[count:]]) == 0, arguments
    assert not any("*" in each for each in arguments), f"nothing matches: {arguments}"
    for option, value in pairwise(arguments):
        assert option not in VALUES or value in VALUES[option], (option, value)


def _check_python(arguments: list[str]) -> None:
    assert arguments[0] == "-m", arguments
    module, rest = arguments[1], arguments[2:]
    match module:
        case "pip":
            _check_pip(rest)
        case "pytest":
            plugins = [rest[index + 1] for index, each in enumerate(rest) if each == "-p"]
            assert all(find_spec(each) is not None for each in plugins), rest
            marks = [rest[index + 1] for index, each in enumerate(rest) if each == "-m"]
            assert set(marks) <= {"not slow"}, rest
            files = [each for each in rest if each not in ("-p", "-m", *plugins, *marks)]
            assert all((ROOT / each).is_file() for each in files), rest
        case "venv":
            assert set(rest) <= {".venv", ".venv-device", "--clear", "--system-site-packages"}, rest
        case _:
            assert find_spec(module) is not None, module
            options = [each for each in rest if each.startswith("-")]
            help_text = _help(module) if options else ""
            assert all(re.search(rf"(?<![\w-]){each}(?![\w-])", help_text) for each in options), (module, options)


def _check_pip(arguments: list[str]) -> None:
    assert arguments[0] == "install"
    if "-c" in arguments:
        assert (ROOT / arguments[arguments.index("-c") + 1]).is_file()
    target = arguments[arguments.index("-e") + 1]
    extras = re.fullmatch(r"\.(?:\[([\w,-]+)\])?", target)
    assert extras, target
    assert set((extras[1] or "").split(",")) - {""} <= EXTRAS.keys(), target


def _help(module: str) -> str:
    environment = os.environ | {"COLUMNS": "200", "NO_COLOR": "1"}
    return subprocess.run(
        [sys.executable, "-m", module, "--help"], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    ).stdout


def make(*targets: str) -> list[str]:
    """The lines that make would run; none where it can't."""
    own = {
        name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))
    }  # of `make test`
    result = subprocess.run(
        ["make", "-n", "-B", "--no-print-directory", *targets],
        cwd=ROOT, env=own, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return result.stdout.splitlines() if result.returncode == 0 else []


def _scripts(workflow: Workflow, job: str) -> Iterator[str]:
    return (step["run"] for step in workflow["jobs"][job]["steps"] if "run" in step)


def _calls(runner: Path, name: str, job: str) -> list[list[str]]:
    workflow = WORKFLOWS[name]
    return [words for script in _scripts(workflow, job) for words in calls(runner, script, workflow.get("env", {}))]


@pytest.mark.parametrize("name", WORKFLOWS)
def test_a_workflow_holds_together(name: str) -> None:
    workflow = WORKFLOWS[name]
    assert workflow.keys() <= {"name", "on", "permissions", "env", "jobs"}
    triggers = workflow["on"] if isinstance(workflow["on"], dict) else dict.fromkeys(workflow["on"])
    asked = (triggers.get("workflow_dispatch") or {}).get("inputs", {})
    for paths in (each["paths"] for each in triggers.values() if each and "paths" in each):
        assert all(any(ROOT.glob(path)) for path in paths), paths
    made: set[str] = set()
    for job in workflow["jobs"].values():
        assert job.keys() <= {"needs", "if", "runs-on", "timeout-minutes", "steps"}
        needs = [job["needs"]] if isinstance(job.get("needs"), str) else job.get("needs", [])
        assert set(needs) <= workflow["jobs"].keys()
        for kind, wanted in DEPENDS.findall(str(job.get("if", ""))):
            assert wanted in (asked if kind == "inputs" else needs), wanted
        for step in job["steps"]:
            assert len({"uses", "run"} & step.keys()) == 1, step
            with_ = step.get("with", {})
            if step.get("uses", "").startswith("actions/upload-artifact@"):
                assert with_["name"] not in made
                made.add(with_["name"])
            if step.get("uses", "").startswith("actions/download-artifact@"):
                pattern = with_.get("pattern", with_.get("name", "")).strip("{}")
                assert set(pattern.split(",")) <= made, pattern


@pytest.mark.parametrize(("name", "job"), JOBS)
def test_each_command_of_a_job_exists(runner: Path, name: str, job: str) -> None:
    found = _calls(runner, name, job)
    assert found
    for words in found:
        check(words)


def test_all_jobs_of_parity_call_one_command(runner: Path) -> None:
    """Linux without restriction, from its own inputs; the others on those, with a runtime of their own."""
    found = {job: [words for words in _calls(runner, "parity", job) if words[1] == "parity"] for job in
             WORKFLOWS["parity"]["jobs"]}  # fmt: skip
    collected = {job: words for job, (words, *_) in found.items() if "--collect" in words}
    assert collected.keys() == {"linux", "macos", "gpu", "jetson"}
    for job, words in collected.items():
        assert words[words.index("--collect") + 1] == f"parity/{job}"
        assert ("--inputs" in words) == ("--runtime" in words) == (job != "linux")
        assert "--precision" not in words
        assert "--variant" not in words
    compared = [words for job in ("linux", "compare") for words in found[job] if "--compare" in words]
    assert [words.count("--compare") for words in compared] == [1, 4]


def test_the_test_job_is_make_test(runner: Path) -> None:
    assert _calls(runner, "test", "test") == [["bash", ".ci/run"]]
    (runner / ".ci").mkdir()
    shutil.copy(ROOT / ".ci" / "run", runner / ".ci" / "run")
    dirname = shutil.which("dirname")
    assert dirname is not None
    (runner / "bin" / "dirname").symlink_to(dirname)
    assert calls(runner, (runner / ".ci" / "run").read_text().replace("${BASH_SOURCE[0]}", ".ci/run"), {}) == [
        ["make", "test"]
    ]
    assert any(line.endswith("/python -m pytest") for line in make("test"))


@pytest.mark.slow
@pytest.mark.parametrize("target", ["demo", "test", "test-fast", "test-device", "data", "train"])
def test_each_command_of_make_exists(target: str) -> None:
    ours = [shlex.split(line) for line in make(target) if re.match(r"\.venv(-device)?/bin/(python|deeplens) ", line)]
    assert ours
    for words in ours:
        if words[1:3] != ["-m", "pip"] or "-e" in words:
            check([Path(words[0]).name, *words[1:]])


@pytest.mark.parametrize(
    "line",
    [
        "deeplens parity --colect parity/linux",
        "deeplens parity --collect",
        "deeplens party --collect parity/linux",
        "deeplens parity --runtime onxn",
        "deeplens export trt --target jetson-orion",
        "deeplens export tensorrt --target desktop",
        "deeplens lint artifacts/coreml/edge_*_fp16_iOS16.mlpackage",
        "python -m pip install -e '.[exports]'",
        "python -m pip install -c constraint.txt -e .",
        "python -m deeplens.parity_tests.fault",
        "python -m deeplens.commands.demo --fokus 1,1",
        "python -m pytest tests/test_nothing.py",
        "python -m pytest -p tests.support.nothing",
        "python -m pytest -m 'not slw'",
        "bash .ci/runs",
        "make tset",
    ],
)
def test_a_command_that_does_not_exist_is_told(runner: Path, line: str) -> None:
    (words,) = calls(runner, line, {})
    with pytest.raises(AssertionError):
        check(words)


@pytest.mark.parametrize("line", ["nmake test", "for x in 1 2; do make test", "deeplens parity > none/parity.md"])
def test_a_script_that_the_shell_can_not_run_is_told(runner: Path, line: str) -> None:
    with pytest.raises(AssertionError):
        calls(runner, line, {})


def test_actions_are_pinned_by_commit() -> None:
    """A tag can be moved to other code; a commit can't. The comment says which version it is."""
    texts = [path.read_text() for path in (ROOT / ".github" / "workflows").glob("*.yml")]
    used = [line.strip() for text in texts for line in text.splitlines() if re.match(r"\s*(- )?uses:", line)]
    assert used
    assert [line for line in used if not re.search(r"@[0-9a-f]{40} # v\d+\.\d+\.\d+$", line)] == []

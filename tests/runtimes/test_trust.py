"""Whom artefacts are believed from: signatures made by minisign 0.11 itself, and engines that were built here."""

import base64
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from deeplens.console.errors import InputError, MismatchError, MissingError
from deeplens.model.contract import CONTRACTS
from deeplens.runtimes import folders_of_user, manifest, trust
from deeplens.runtimes.trt import TrtRuntime
from tests.conftest import Command
from tests.support.cuda_stand_in import Cudart
from tests.support.trt_engines import add_engine, runtime_of
from tests.support.trt_stand_in import BINDINGS, TensorRtStandIn

MANIFEST = b'{"artifacts": []}\n'
KEY = "RWSLLrgEU2+NqFQsomAqqaS1Fs2SSYy6R/NGj23lYsKsWN9ANtbY8Gka"
OTHER_KEY = "RWSiU0qzIaKwjRdt5r/Kzc61+RSTeMuN+LwvqAyapbjILb2eU5nDLSTY"
HASHED = """untrusted comment: signature from minisign secret key
RUSLLrgEU2+NqFMms8npbr9W0mfA2Ai1r2bfhMzhvLJNCjNhxfuBjRVuym9GVtejcYIuo5vZisHhV8FGKPQw1085AjiB0KqQwwk=
trusted comment: made for tests
8e818cLFKnSzrRT8ZezMhYl5K+d/kQ7I195hP4LHZH3RDaFkuNsr/ai/HQ7deEm+1AYvzlJfGWgP4aX7yXbFCg==
"""
LEGACY = """untrusted comment: signature from minisign secret key
RWSLLrgEU2+NqILt/iUnRFszyX0h7uYQOCr8vJ2KnApLJsQ+sN08zqufEQuSNnHD+1qwzxBHSUsTmc6PY53dUDi6amSg0B+FxQ8=
trusted comment: made for tests
WSM9uLusBXcGsBcaiP7boDU9SsOAlpmJrHtrfh9UD8K4jOeUduvAXWvF+2EpDLRy3KYErPxedHyi0zX8iEqSDg==
"""

pytest.importorskip("cryptography")


@pytest.fixture
def signed(tmp_path: Path) -> Path:
    """A folder with a manifest and its signature."""
    (tmp_path / "manifest.json").write_bytes(MANIFEST)
    (tmp_path / "manifest.json.minisig").write_text(HASHED)
    return tmp_path


class TestSignature:
    @pytest.mark.parametrize("signature", [HASHED, LEGACY])
    def test_by_the_key(self, signed: Path, signature: str) -> None:
        (signed / "manifest.json.minisig").write_text(signature)
        with trust.trusting(KEY):
            assert manifest.read(signed) == []

    def test_by_one_of_the_keys_in_a_file(self, signed: Path, tmp_path: Path) -> None:
        keys = tmp_path / "keys"
        keys.write_text(f"untrusted comment: minisign public key\n{OTHER_KEY}\n# ours\n{KEY}\n")
        with trust.trusting(str(keys)):
            assert manifest.read(signed) == []
        keys.write_text(OTHER_KEY)
        with trust.trusting(str(keys)), pytest.raises(MismatchError, match=r"no signature of manifest\.json"):
            manifest.read(signed)

    def test_every_change_is_seen(self, signed: Path) -> None:
        """Of the manifest, of what is trusted in the signature, and of who signed: a bit is enough."""
        beside = signed / "manifest.json.minisig"
        lines = HASHED.splitlines()
        changed = [HASHED.replace("made for tests", "made for users"), HASHED.replace("trusted comment: m", "m", 1)]
        for number in (1, 3):
            raw = base64.b64decode(lines[number])
            for at in range(0, len(raw), 5):
                altered = base64.b64encode(raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]).decode()
                changed.append("\n".join((*lines[:number], altered, *lines[number + 1 :])))
        with trust.trusting(KEY):
            for text in changed:
                beside.write_text(text)
                with pytest.raises(MismatchError, match="no signature"):
                    manifest.read(signed)
            beside.write_text(HASHED.replace("signature from", "anything, as it is not trusted"))
            assert manifest.read(signed) == []
            (signed / "manifest.json").write_bytes(MANIFEST.replace(b"[]", b"[ ]"))
            with pytest.raises(MismatchError, match="no signature"):
                manifest.read(signed)

    @pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"a\nb\nc\nd\n", HASHED.split("trusted")[0].encode()])
    def test_what_is_no_signature(self, signed: Path, content: bytes) -> None:
        (signed / "manifest.json.minisig").write_bytes(content)
        with trust.trusting(KEY), pytest.raises(MismatchError, match=r"manifest\.json\.minisig"):
            manifest.read(signed)

    def test_an_unsigned_one(self, signed: Path) -> None:
        (signed / "manifest.json.minisig").unlink()
        assert manifest.read(signed) == []
        with trust.trusting(KEY), pytest.raises(MismatchError, match="is not signed"):
            manifest.read(signed)

    def test_a_pipe_in_place_of_a_signature(self, signed: Path) -> None:
        (signed / "manifest.json.minisig").unlink()
        os.mkfifo(signed / "manifest.json.minisig")
        with trust.trusting(KEY), pytest.raises(MismatchError, match="can't be read"):
            manifest.read(signed)

    def test_without_the_library(self, signed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(__import__("sys").modules, "cryptography.exceptions", None)
        with trust.trusting(KEY), pytest.raises(MissingError, match=r"deeplens-edge\[trust\]"):
            manifest.read(signed)


class TestPolicy:
    @pytest.mark.parametrize("text", ["no key", "RW", KEY[:-1], "A" * 56])
    def test_what_is_none(self, text: str) -> None:
        with pytest.raises(InputError, match="neither 'manifest' nor a public key"), trust.trusting(text):
            pass

    def test_a_file_without_keys(self, tmp_path: Path) -> None:
        (tmp_path / "keys").write_text("# none yet\n")
        with pytest.raises(InputError, match="holds no public key"), trust.trusting(str(tmp_path / "keys")):
            pass

    def test_it_ends_with_its_block(self) -> None:
        with trust.trusting(KEY):
            assert trust.policy().keys
            with trust.trusting("manifest"):
                assert trust.policy() == trust.Policy(believes_manifest=True)
            assert trust.policy().keys
        assert trust.policy() == trust.Policy()


class TestEngines:
    """An engine is machine code: no library sees it before somebody vouches for it."""

    @pytest.fixture(autouse=True)
    def own_user_folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """A folder of each test: other tests have built the same engines."""
        monkeypatch.setattr(folders_of_user, "user_data", lambda: tmp_path / "user")
        monkeypatch.delenv(trust.VARIABLE, raising=False)
        return tmp_path / "user"

    @pytest.fixture
    def foreign(self, tmp_path: Path) -> Iterator[TrtRuntime]:
        """A runtime on an engine that came from elsewhere."""
        module = TensorRtStandIn(sorted(BINDINGS)[0], Cudart())
        for network in CONTRACTS:
            add_engine(tmp_path, network, module, built_here=False)
        with runtime_of(tmp_path, module) as runtime:
            yield runtime

    def test_from_elsewhere(self, foreign: TrtRuntime) -> None:
        with pytest.raises(MismatchError, match=r"not built here .* --rebuild`, give --trust"):
            foreign.open("upsample")
        with trust.trusting("manifest"):
            foreign.open("upsample")

    def test_by_a_signature(self, foreign: TrtRuntime) -> None:
        """Unsigned it is refused; what is signed is believed, so nothing more is asked of the engine."""
        with trust.trusting(KEY), pytest.raises(MismatchError, match="is not signed"):
            foreign.open("upsample")

    def test_built_here(self, foreign: TrtRuntime, own_user_folder: Path) -> None:
        for entry in manifest.read(foreign.artifacts):
            trust.remember_engine(entry.sha256)
        foreign.open("upsample")
        assert (own_user_folder / trust.LIST_NAME).stat().st_mode & 0o022 == 0


class TestCommand:
    def test_verify(self, deeplens: Command, artifacts: Path) -> None:
        assert deeplens("verify", "--artifacts", artifacts).status == 0
        refused = deeplens("verify", "--artifacts", artifacts, "--trust", KEY)
        assert refused.status == MismatchError.exit_code
        assert "is not signed" in refused.error
        assert deeplens("verify", "--artifacts", artifacts, "--trust", "nobody").status == InputError.exit_code
        assert trust.VARIABLE not in os.environ

    def test_refocus_by_the_environment(
        self, deeplens: Command, artifacts: Path, photo: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(trust.VARIABLE, KEY)
        result = deeplens(
            "refocus", photo, "--focus", "0.5,0.5", "--runtime", "onnx", "--artifacts", artifacts,
            "-o", folder / "out.png",
        )  # fmt: skip
        assert "is not signed" in result.error
        assert json.loads((artifacts / "manifest.json").read_text())["artifacts"]

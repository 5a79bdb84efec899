"""Whom artefacts are believed from: a signature over the manifest, or, for engines, that they were built here.

A manifest holds the hash of each artefact. Whoever can change an artefact can change the manifest too, unless that is
signed: `minisign -Sm artifacts/manifest.json` writes the signature beside it. The policy, `--trust` or the environment
variable DEEPLENS_TRUST, is one of

- nothing: artefacts are what their manifest says. TensorRT engines are machine code, so they must have been built by
  this user on this machine: their hash is in a list in the user's own folder.
- a public key of minisign, or a file of such keys: every manifest must be signed by one of them, and is believed then.
- "manifest": the manifest is believed for engines too. For folders that nobody else can write to.
"""

import base64
import binascii
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from deeplens.console.errors import InputError, MismatchError, MissingError
from deeplens.console.inputs import read_text
from deeplens.console.package import pip_install
from deeplens.runtimes import folders_of_user

VARIABLE = "DEEPLENS_TRUST"
MANIFEST = "manifest"
"""The policy that believes manifests for engines too."""

SIGNATURE_SUFFIX = ".minisig"
LIST_NAME = "engines_built_here.txt"
MOST_KEYS = 1 << 20
"""Largest file of keys or signature, in bytes."""


@dataclass(frozen=True)
class Key:
    """A public key of minisign: Ed25519, with a number that its signatures name."""

    number: bytes
    key: bytes


@dataclass(frozen=True)
class Policy:
    """Whom to believe: see the module.

    Attributes:
        keys: that may sign; empty: manifests need no signature.
        believes_manifest: engines need no more than their line in the manifest.
    """

    keys: tuple[Key, ...] = ()
    believes_manifest: bool = False


def policy() -> Policy:
    """The policy of this process.

    Raises:
        InputError: it names neither "manifest" nor keys.
    """
    return parsed(os.environ.get(VARIABLE, ""))


def parsed(text: str) -> Policy:
    """A policy from its text: empty, "manifest", a key, or a file of keys.

    Raises:
        InputError: none of these.
    """
    if not text:
        return Policy()
    if text == MANIFEST:
        return Policy(believes_manifest=True)
    key = _key(text)
    if key is not None:
        return Policy((key,))
    try:
        lines = read_text(Path(text), most=MOST_KEYS).splitlines()
    except (OSError, ValueError) as error:
        raise InputError(
            f"--trust {text} is neither '{MANIFEST}' nor a public key of minisign (RW…), and no file of keys: check it"
        ) from error
    keys = tuple(found for line in lines if (found := _key(line.strip())) is not None)
    if not keys:
        raise InputError(f"{text} holds no public key of minisign: give the file that `minisign -G` calls minisign.pub")
    return Policy(keys)


def _key(text: str) -> Key | None:
    raw = _decoded(text)
    return Key(raw[2:10], raw[10:]) if len(raw) == 42 and raw[:2] == b"Ed" else None


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""


def check_manifest(path: Path, data: bytes) -> None:
    """Check the signature beside a manifest where the policy names keys.

    Args:
        path: of the manifest.
        data: its bytes, those that are used afterwards.

    Raises:
        MismatchError: it is not signed, not by one of these keys, or was changed since.
        MissingError: the package `cryptography` is not installed.
    """
    keys = policy().keys
    if not keys:
        return
    beside = path.with_name(path.name + SIGNATURE_SUFFIX)
    try:
        lines = read_text(beside, most=MOST_KEYS).splitlines()
    except FileNotFoundError:
        raise MismatchError(
            f"{path} is not signed, and --trust wants a signature: get {beside.name}, or sign it with `minisign -Sm`"
        ) from None
    except (OSError, ValueError, InputError) as error:
        raise MismatchError(f"{beside} can't be read as a signature: get it again") from error
    if not any(_verified(lines, data, key) for key in keys):
        raise MismatchError(
            f"{beside} is no signature of {path.name} by a key of --trust: get both again, and check whose key it is"
        )


def _verified(lines: list[str], data: bytes, key: Key) -> bool:
    """Whether the lines of a .minisig file sign `data` with a key; also what their trusted comment says."""
    try:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    except ImportError as error:
        raise MissingError(f"signatures need the package cryptography ({error}): {pip_install('trust')}") from error
    if len(lines) < 4 or not lines[2].startswith("trusted comment: "):
        return False
    raw, whole = _decoded(lines[1]), _decoded(lines[3])
    if len(raw) != 74 or len(whole) != 64 or raw[2:10] != key.number or raw[:2] not in (b"ED", b"Ed"):
        return False
    message = hashlib.blake2b(data).digest() if raw[:2] == b"ED" else data
    comment = lines[2].removeprefix("trusted comment: ").encode()
    try:
        public = Ed25519PublicKey.from_public_bytes(key.key)
        public.verify(raw[10:], message)
        public.verify(whole, raw[10:] + comment)
    except (InvalidSignature, ValueError):
        return False
    return True


def check_engine(path: Path, sha256: str, command: str) -> None:
    """Check that an engine, which is machine code, may run.

    Args:
        sha256: of its bytes, as the manifest has it.
        command: what builds it again, for the message.

    Raises:
        MismatchError: the policy has no reason to believe it.
    """
    found = policy()
    if found.keys or found.believes_manifest or sha256 in _built_here():
        return
    raise MismatchError(
        f"{path} is machine code that was not built here by this user, and no signature is trusted: rebuild it with "
        f"`{command} --rebuild`, give --trust with the key of who built it, or --trust {MANIFEST} if nobody else can "
        "write to the folder"
    )


def remember_engine(sha256: str) -> None:
    """Note that an engine was built here. Where the user's folder can't be written to, it will need --trust."""
    path = folders_of_user.user_data() / LIST_NAME
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with path.open("a", encoding="utf-8") as file:
            file.write(f"{sha256}\n")


def _built_here() -> frozenset[str]:
    try:
        return frozenset(read_text(folders_of_user.user_data() / LIST_NAME).split())
    except (OSError, ValueError, InputError):
        return frozenset()


@contextmanager
def trusting(text: str) -> Iterator[None]:
    """Let `text` be the policy within the block, of this process and of those that it starts.

    Raises:
        InputError: it names neither "manifest" nor keys.
    """
    parsed(text)
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = text
    try:
        yield
    finally:
        del os.environ[VARIABLE]
        if before is not None:
            os.environ[VARIABLE] = before

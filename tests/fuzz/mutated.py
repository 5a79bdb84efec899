"""Bytes that were once a good file: a Hypothesis strategy of changes such as broken disks and attackers make."""

from collections.abc import Callable, Sequence

from hypothesis import strategies as st

WORDS = (
    b"\0", b"\xff", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\0", b"\x80\0\0\0", b"\xff\xff\xff\x7f", b"-1",
    b"999999999999", b"1e999", b"NaN", b"null", b"[" * 3000, b'{"a":' * 1500, b"..", b"../" * 9, b"/dev/zero",
    b"%s%n", "²".encode(), b"\xed\xb3\xbf", b"<!DOCTYPE a [<!ENTITY b 'c'>]>", b"<a>" * 300, b"'", b'"', b"(", b"\n",
)  # fmt: skip
"""What numbers, texts and structures break on."""

Change = Callable[[bytes], bytes]


def mutated(seeds: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """One of `seeds` with up to six changes; seldom bytes that have nothing to do with them."""
    changed = st.builds(_applied, st.sampled_from(seeds), st.lists(_changes(seeds), min_size=1, max_size=6))
    return st.one_of(changed, changed, changed, st.binary(max_size=400))


def _applied(data: bytes, changes: list[Change]) -> bytes:
    for change in changes:
        data = change(data)
    return data[: 1 << 22]


def _changes(seeds: Sequence[bytes]) -> st.SearchStrategy[Change]:
    place = st.one_of(st.integers(0, 400), st.integers(0, 1 << 22))  # what decides stands at the beginning
    return st.one_of(
        st.builds(_set, place, st.binary(min_size=1, max_size=4)),
        st.builds(_set, place, st.sampled_from(WORDS)),
        st.builds(_insert, place, st.sampled_from(WORDS)),
        st.builds(_insert, place, st.binary(min_size=1, max_size=40)),
        st.builds(_flip, place, st.integers(0, 7)),
        st.builds(_delete, place, st.integers(1, 200)),
        st.builds(_cut, place),
        st.builds(_repeat, place, st.integers(1, 300), st.integers(2, 200)),
        st.builds(_splice, place, st.sampled_from(seeds), place),
    )


def _at(data: bytes, place: int) -> int:
    return place % (len(data) + 1)


def _set(place: int, word: bytes) -> Change:
    return lambda data: data[: _at(data, place)] + word + data[_at(data, place) + len(word) :]


def _insert(place: int, word: bytes) -> Change:
    return lambda data: data[: _at(data, place)] + word + data[_at(data, place) :]


def _flip(place: int, bit: int) -> Change:
    def change(data: bytes) -> bytes:
        at = place % len(data) if data else 0
        return data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :] if data else data

    return change


def _delete(place: int, count: int) -> Change:
    return lambda data: data[: _at(data, place)] + data[_at(data, place) + count :]


def _cut(place: int) -> Change:
    return lambda data: data[: _at(data, place)]


def _repeat(place: int, length: int, times: int) -> Change:
    def change(data: bytes) -> bytes:
        at = _at(data, place)
        return data[:at] + data[at : at + length] * times + data[at + length :]

    return change


def _splice(place: int, other: bytes, begin: int) -> Change:
    return lambda data: data[: _at(data, place)] + other[_at(other, begin) :]

"""The scanner says on which line each key of a TOML document stands."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainerd.clients.toml_lines import KeyPath, key_lines


def test_finds_keys_of_every_kind() -> None:
    text = "\n".join(
        [
            "# a comment with [a.table] and key = 1",
            'name = "demo" # trailing',
            "a.b.c = 1",
            '"quoted.key" . d = 2',
            "[train]",
            "  steps = 400",
            "[ policy . crash ]",
            'action = "skip"',
            "[policy]",
            "backoff_s = 1.0",
        ]
    )
    lines = key_lines(text)
    assert lines[("name",)] == 2
    assert lines[("a",)] == lines[("a", "b", "c")] == 3
    assert lines[("quoted.key", "d")] == 4
    assert lines[("train",)] == 5
    assert lines[("train", "steps")] == 6
    assert lines[("policy", "crash")] == 7
    assert lines[("policy", "crash", "action")] == 8
    assert lines[("policy",)] == 9, "its own header wins over being named first in [policy.crash]"
    assert lines[("policy", "backoff_s")] == 10


def test_values_over_several_lines_do_not_shift_what_follows() -> None:
    text = (
        'a = """\n[not.a.table]\nb = 1 \\\n  and "" quotes""""\n'
        "c = '''\nd = 2\n'''\n"
        "e = [ # first\n  1,\n\n  [2,\n 3], { f = 4 },\n]\n"
        "g = 1979-05-27 07:32:00 # a date with a space\n"
        "h = 5"
    )
    lines = key_lines(text)
    assert set(tomllib.loads(text)) == {"a", "c", "e", "g", "h"}
    assert (lines[("a",)], lines[("c",)], lines[("e",)]) == (1, 5, 8)
    assert (lines[("e", 0)], lines[("e", 1)], lines[("e", 1, 1)]) == (9, 11, 12)
    assert lines[("e", 2, "f")] == 12
    assert (lines[("g",)], lines[("h",)]) == (14, 15)


def test_arrays_of_tables_count_their_elements() -> None:
    text = "[[x]]\na = 1\n[x.y]\nb = 2\n[[x]]\na = 3\n[[x.z]]\nc = 4\n"
    lines = key_lines(text)
    assert lines[("x", 0, "a")] == 2
    assert lines[("x", 0, "y", "b")] == 4
    assert lines[("x", 1, "a")] == 6
    assert lines[("x", 1, "z", 0, "c")] == 8


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_both_line_endings_count_once(newline: str) -> None:
    assert key_lines(newline.join(["", "a = 1", "", "b = 2"]))[("b",)] == 4


# Documents are made together with the lines their keys stand on.


@dataclass(frozen=True)
class Rendered:
    """A value's text, and the line offset of everything inside it."""

    text: str
    inside: tuple[tuple[KeyPath, int], ...] = ()


BARE = st.from_regex(r"[A-Za-z0-9_-]{1,6}", fullmatch=True)
TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["C"]), max_size=8)
KEYS = BARE | TEXT
BLANK = st.sampled_from([" ", "\n", " # [x] = ']\n", "\n\n  "])


def spelled(key: str, quoted: bool) -> str:
    bare = key.isascii() and key.replace("_", "").replace("-", "").isalnum()
    return key if bare and not quoted else json.dumps(key, ensure_ascii=False)


def scalar() -> st.SearchStrategy[Rendered]:
    inner = TEXT.map(lambda text: text.replace("'", "").replace("\\", ""))
    return st.one_of(
        st.integers(-9, 99).map(str),
        st.sampled_from(["true", "1.5", "1979-05-27", "1979-05-27 07:32:00", "inf"]),
        TEXT.map(lambda text: json.dumps(text, ensure_ascii=False)),
        inner.map(lambda text: f"'{text}'"),
        inner.map(lambda text: f"'''\n{text}\n[a]\n'''"),
        inner.map(lambda text: '"""' + text.replace('"', "") + '\n# no \\" comment\nb = 1"""'),
    ).map(Rendered)


@st.composite
def array(draw: st.DrawFn, elements: st.SearchStrategy[Rendered]) -> Rendered:
    text, inside = "[", []
    for index, element in enumerate(draw(st.lists(elements, max_size=3))):
        text += draw(BLANK)
        offset = text.count("\n")
        inside.append(((index,), offset))
        inside += [((index, *path), offset + line) for path, line in element.inside]
        text += element.text + draw(BLANK) + ","
    return Rendered(text + draw(BLANK) + "]", tuple(inside))


@st.composite
def inline_table(draw: st.DrawFn, values: st.SearchStrategy[Rendered]) -> Rendered:
    parts, inside, offset = [], [], 0
    for key, value in draw(st.dictionaries(KEYS, values, max_size=3)).items():
        inside.append(((key,), offset))
        inside += [((key, *path), offset + line) for path, line in value.inside]
        parts.append(f" {spelled(key, draw(st.booleans()))} = {value.text} ")
        offset += value.text.count("\n")
    return Rendered("{" + ",".join(parts) + "}", tuple(inside))


VALUES = st.recursive(scalar(), lambda inner: array(inner) | inline_table(inner), max_leaves=6)


@st.composite
def documents(draw: st.DrawFn) -> tuple[str, dict[KeyPath, int]]:
    text, expected = "", {}
    tables: list[KeyPath] = [()]
    for name in draw(st.lists(KEYS.map(lambda key: f"t{key}"), unique=True, max_size=3)):
        tables.append((name,))
    for table in tables:
        text += draw(st.sampled_from(["", "\n", "# comment [x]\n"]))
        if table:
            expected[table] = text.count("\n") + 1
            text += f"[ {spelled(str(table[0]), draw(st.booleans()))} ]\n"
        for key, value in draw(st.dictionaries(KEYS.map(lambda k: f"k{k}"), VALUES)).items():
            line = text.count("\n") + 1
            dotted = draw(st.booleans())
            path = (*table, key, "d") if dotted else (*table, key)
            expected[(*table, key)] = expected[path] = line
            expected |= {(*path, *inner): line + offset for inner, offset in value.inside}
            suffix = " . d" if dotted else ""
            text += f"{spelled(key, draw(st.booleans()))}{suffix} = {value.text} # {{\n"
    return text, expected


def paths_of(value: Any, path: KeyPath = ()) -> Iterator[KeyPath]:
    items: Any = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    for key, inner in items:
        yield (*path, key)
        yield from paths_of(inner, (*path, key))


@settings(max_examples=150, deadline=None)
@given(documents())
def test_lines_agree_with_how_a_document_was_made(made: tuple[str, dict[KeyPath, int]]) -> None:
    text, expected = made
    assert key_lines(text) == expected
    assert set(paths_of(tomllib.loads(text))) == set(expected)

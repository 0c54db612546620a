"""On which line of a TOML document each key stands; `tomllib` keeps no positions."""

from __future__ import annotations

import bisect
import re
import tomllib

KeyPath = tuple[str | int, ...]
"""Keys from the document's root; integers are positions in arrays."""

_BLANK = re.compile(r"(?:[ \t\n]|#[^\n]*)*")
_SPACE = re.compile(r"[ \t]*")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
# Three quotes end a multi-line string; up to two more before them belong to it.
_STRING = re.compile(
    r'"""(?:\\.|[^\\])*?"""(?:"{0,2})'
    r"|'''.*?'''(?:'{0,2})"
    r'|"(?:\\.|[^"\\\n])*"'
    r"|'[^'\n]*'",
    re.DOTALL,
)
# A date may be followed by one space and a time.
_SCALAR = re.compile(r"\d{4}-\d\d-\d\d \d\d:[^\s,\]}#]+|[^\s,\]}#]+")


def key_lines(text: str) -> dict[KeyPath, int]:
    """The line (from 1) of every table, key and array element of a valid TOML document.

    A table that several headers or dotted keys contribute to stands at its own header, else
    where it is first named. `text` must be accepted by `tomllib.loads`.
    """
    scanner = _Scanner(text.replace("\r\n", "\n"))
    scanner.document()
    return scanner.lines


class _Scanner:
    def __init__(self, text: str) -> None:
        self.lines: dict[KeyPath, int] = {}
        self._text = text
        self._at = 0
        self._breaks = [at for at, character in enumerate(text) if character == "\n"]
        self._array_lengths: dict[KeyPath, int] = {}

    def document(self) -> None:
        table: KeyPath = ()
        while self._skip(_BLANK):
            line = self._line()
            if self._text.startswith("[[", self._at):
                table = self._array_table(line)
            elif self._text[self._at] == "[":
                self._at += 1
                table = self._resolved(self._keys(), line)
                self._at += 1
                self.lines[table] = line
            else:
                self._assignment(table)

    def _array_table(self, line: int) -> KeyPath:
        self._at += 2
        *parents, last = self._keys()
        self._at += 2
        array = (*self._resolved(parents, line), last)
        index = self._array_lengths.get(array, 0)
        self._array_lengths[array] = index + 1
        self.lines.setdefault(array, line)
        self.lines[(*array, index)] = line
        return (*array, index)

    def _resolved(self, keys: list[str], line: int) -> KeyPath:
        """The path that a header means: an array of tables stands for its last element."""
        path: KeyPath = ()
        for key in keys:
            path = (*path, key)
            self.lines.setdefault(path, line)
            if path in self._array_lengths:
                path = (*path, self._array_lengths[path] - 1)
        return path

    def _assignment(self, table: KeyPath) -> None:
        line = self._line()
        path = table
        for key in self._keys():
            path = (*path, key)
            self.lines.setdefault(path, line)
        self._at += 1
        self._value(path)

    def _value(self, path: KeyPath) -> None:
        self._skip(_SPACE)
        match self._text[self._at]:
            case "[":
                self._array(path)
            case "{":
                self._inline_table(path)
            case '"' | "'":
                self._skip(_STRING)
            case _:
                self._skip(_SCALAR)

    def _array(self, path: KeyPath) -> None:
        self._at += 1
        index = 0
        while self._skip(_BLANK) and self._text[self._at] != "]":
            self.lines[(*path, index)] = self._line()
            self._value((*path, index))
            self._separator()
            index += 1
        self._at += 1

    def _inline_table(self, path: KeyPath) -> None:
        self._at += 1
        while self._skip(_BLANK) and self._text[self._at] != "}":
            self._assignment(path)
            self._separator()
        self._at += 1

    def _separator(self) -> None:
        if self._skip(_BLANK) and self._text[self._at] == ",":
            self._at += 1

    def _keys(self) -> list[str]:
        keys = []
        while True:
            self._skip(_SPACE)
            start = self._at
            if self._text[start] in "\"'":
                self._skip(_STRING)
                quoted = self._text[start : self._at]
                keys.append(str(tomllib.loads(f"key = {quoted}")["key"]))
            else:
                self._skip(_BARE_KEY)
                keys.append(self._text[start : self._at])
            self._skip(_SPACE)
            if self._text[self._at] != ".":
                return keys
            self._at += 1

    def _skip(self, pattern: re.Pattern[str]) -> bool:
        """Move behind `pattern`; False at the end of the document."""
        match = pattern.match(self._text, self._at)
        self._at = match.end() if match else self._at
        return self._at < len(self._text)

    def _line(self) -> int:
        return bisect.bisect_left(self._breaks, self._at) + 1

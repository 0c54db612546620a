"""The supervisor's stories, as transcripts in `scenarios/`.

TRAINERD_REWRITE=1 writes what the supervisor does now into the files; read the difference.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from unit.daemon.transcript import Player

SCENARIOS = sorted((Path(__file__).parent / "scenarios").glob("*.txt"))


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_the_supervisor_acts_as_the_transcript_says(path: Path) -> None:
    expected = path.read_text()
    played = Player().play(expected)
    if os.environ.get("TRAINERD_REWRITE") == "1":
        path.write_text(played)
    else:
        assert played == expected


def test_there_are_transcripts() -> None:
    assert len(SCENARIOS) > 20

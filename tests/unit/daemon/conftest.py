from __future__ import annotations

from collections.abc import Iterator

import pytest

from unit.daemon.journals import check_journals


@pytest.fixture(autouse=True)
def journals_fold_the_same_when_compacted(request: pytest.FixtureRequest) -> Iterator[None]:
    """Whatever journal a test made: compaction must not change what it amounts to."""
    asked = "tmp_path" in request.fixturenames
    folder = request.getfixturevalue("tmp_path") if asked else None
    yield
    if folder is not None:
        check_journals(folder)

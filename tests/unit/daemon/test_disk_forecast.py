"""When the disk is full: on a line through what was free, never for a disk that does not fill."""

from __future__ import annotations

import math

from trainerd.daemon.disk_forecast import full_at

GB = 1e9


def test_a_disk_that_fills_evenly_is_full_when_nothing_is_left() -> None:
    samples = [(100.0 * n, 50 * GB - n * GB) for n in range(10)]
    assert full_at(samples) == 900.0 + 41 * 100.0


def test_one_that_does_not_shrink_is_never_full() -> None:
    assert full_at([(10.0 * n, 5 * GB) for n in range(9)]) == math.inf
    assert full_at([(10.0 * n, n * GB) for n in range(9)]) == math.inf


def test_too_little_to_tell_by_says_nothing() -> None:
    assert full_at([]) == math.inf
    assert full_at([(0.0, 9 * GB), (1.0, GB)]) == math.inf
    assert full_at([(5.0, 9 * GB), (5.0, 8 * GB), (5.0, GB)]) == math.inf


def test_noise_around_the_line_changes_little() -> None:
    samples = [(100.0 * n, 50 * GB - n * GB + (0.2 * GB if n % 2 else 0.0)) for n in range(20)]
    assert abs(full_at(samples) - 5000.0) < 100.0

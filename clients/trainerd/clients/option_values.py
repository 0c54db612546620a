"""Values of options, as argparse reads them: each raises what argparse reports."""

from __future__ import annotations

import argparse
import math


def run_name(text: str) -> str:
    """A run's id, or a beginning of one."""
    if not text.strip():
        raise argparse.ArgumentTypeError("must be a run's id, got nothing")
    return text


def seconds(text: str) -> float:
    """A finite number of seconds above 0."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number of seconds > 0, got {text!r}")
    return value


def probability(text: str) -> float:
    """Above 0 and at most 1."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"must be above 0 and at most 1, got {text!r}")
    return value


def slot_numbers(text: str) -> tuple[int, ...]:
    """Slots such as `0,1`."""
    parts = text.split(",")
    # A slot's number has 32 bits.
    if not all(part.isascii() and part.isdigit() and int(part) < 2**31 for part in parts):
        raise argparse.ArgumentTypeError(f"must be slots such as 0,1, got {text!r}")
    return tuple(int(part) for part in parts)


def count(text: str) -> int:
    """An integer ≥ 0 of 64 bits."""
    if not text.isascii() or not text.isdigit() or int(text) >= 2**63:
        raise argparse.ArgumentTypeError(f"must be an integer ≥ 0, got {text!r}")
    return int(text)


def request_id(text: str) -> str:
    """An idempotency key: 1 to 128 characters."""
    if not 1 <= len(text) <= 128:
        raise argparse.ArgumentTypeError(f"must have 1 to 128 characters, got {len(text)}")
    return text

"""From exceptions to faults: class, words, and a traceback of the user's frames."""

from __future__ import annotations

import errno

import jax
import jax.numpy as jnp
import pytest

from trainerd.actors.budget import Budget
from trainerd.actors.errors import (
    CheckpointsDamagedError,
    DataError,
    PlanError,
)
from trainerd.actors.faults import classify, save_failure_reason
from trainerd.actors.plan import Rule
from trainerd.actors.reports import Fault, FaultClass, Phase, Verdict
from trainerd.actors.traceback_text import user_traceback

XLA = jax.errors.JaxRuntimeError


def of(error: Exception) -> Fault:
    return classify(error, phase=Phase.STEP, step=4, batch=6, state_intact=True)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (XLA("RESOURCE_EXHAUSTED: Out of memory allocating 8 bytes."), FaultClass.DEVICE_OOM),
        (XLA("INTERNAL: Failed to launch CUDA kernel"), FaultClass.DEVICE_ERROR),
        (XLA("DATA_LOSS: uncorrectable ECC error"), FaultClass.DEVICE_ERROR),
        (XLA("UNAVAILABLE: device gone"), FaultClass.DEVICE_ERROR),
        (XLA("INVALID_ARGUMENT: bad shape"), FaultClass.STEP_EXCEPTION),
        (ValueError("INTERNAL: says the user"), FaultClass.STEP_EXCEPTION),
        (DataError("torn", batch=9), FaultClass.DATA_ERROR),
        (CheckpointsDamagedError("none left"), FaultClass.CHECKPOINT_CORRUPT),
    ],
)
def test_each_error_has_its_class(error: Exception, expected: FaultClass) -> None:
    assert of(error).fault_class is expected


def test_a_users_callback_is_not_a_device_error() -> None:
    def boom(x: object) -> object:
        raise ValueError("user boom")

    call = jax.jit(lambda x: jax.pure_callback(boom, jax.ShapeDtypeStruct((), jnp.float32), x))
    with pytest.raises(XLA) as raised:
        jax.block_until_ready(call(1.0))
    fault = of(raised.value)
    assert fault.fault_class is FaultClass.STEP_EXCEPTION
    assert fault.message.endswith("ValueError: user boom")


def test_our_own_errors_keep_their_words() -> None:
    fault = of(PlanError("steps must be ≥ 1, got 0", suggestion="say how many"))
    assert (fault.message, fault.suggestion) == ("steps must be ≥ 1, got 0", "say how many")


def test_a_data_error_knows_its_batch() -> None:
    assert of(DataError("torn", batch=9)).batch == 9


def test_whether_the_state_is_whole_is_passed_on() -> None:
    assert not classify(
        XLA("INTERNAL: x"), phase=Phase.STEP, step=0, state_intact=False
    ).state_intact


def wrapped(text: str, cause: Exception | None = None) -> Exception:
    try:
        raise ValueError(text) from cause
    except ValueError as error:
        return error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "no_space"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "no_space"),
        (OSError(errno.EROFS, "Read-only file system"), "read_only"),
        (PermissionError(errno.EACCES, "Permission denied"), "permission_denied"),
        (FileNotFoundError(errno.ENOENT, "No such file"), "not_found"),
        (NotADirectoryError(errno.ENOTDIR, "Not a directory"), "not_found"),
        (FileExistsError(errno.EEXIST, "File exists"), "not_found"),
        (OSError(errno.EIO, "Input/output error"), "io_error"),
        (OSError("odd"), "io_error"),
        (TimeoutError("still not durable"), "timeout"),
        (wrapped("RESOURCE_EXHAUSTED: Error writing OCDBT node"), "no_space"),
        (wrapped("it failed", OSError(errno.EROFS, "x")), "read_only"),
        (TypeError("cannot serialise this"), "serialization"),
        (RuntimeError("odd"), "unknown"),
    ],
)
def test_a_failed_save_has_a_reason(error: Exception, expected: str) -> None:
    assert save_failure_reason(error) == expected


def test_causes_are_shown_without_our_frames() -> None:
    def user() -> None:
        try:
            raise KeyError("first")
        except KeyError as error:
            raise ValueError("second") from error

    with pytest.raises(ValueError, match="second") as raised:
        user()
    text = user_traceback(raised.value)
    assert text.index("KeyError: 'first'") < text.index("ValueError: second")
    assert "in user" in text


def rule(limit: int, window_s: float = 10.0, consecutive: int = 0) -> Rule:
    return Rule(action=Verdict.SKIP, limit=limit, window_s=window_s, consecutive=consecutive)


def test_a_budget_is_a_sliding_window() -> None:
    budget = Budget(rule(2))
    assert [budget.spend(now) for now in (0.0, 1.0)] == ["", ""]
    assert budget.spend(2.0) == "3 in 10 s, limit 2"
    assert budget.spend(11.5) == ""


def test_a_budget_counts_in_a_row() -> None:
    budget = Budget(rule(99, consecutive=2))
    assert budget.spend(0.0) == ""
    budget.progressed()
    assert budget.spend(1.0) == ""
    assert budget.spend(2.0) == "2 in a row, limit 2"
    budget.renew()
    assert budget.spend(3.0) == ""


def test_a_budget_of_nothing_is_spent_at_once() -> None:
    assert Budget(rule(0)).spend(0.0) == "1 in 10 s, limit 0"

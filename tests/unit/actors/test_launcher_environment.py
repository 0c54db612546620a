"""The environment of a trainer is built: what binds devices, what is refused."""

from __future__ import annotations

import os

import pytest

from trainerd.actors.launcher.config import DevicesSection
from trainerd.actors.launcher.devices import DeviceLock, DevicesBusy, device_environment, told
from trainerd.actors.launcher.environment import User, build_environment, environment_problems
from trainerd.v1 import run_pb2

USER = User(name="ada", home="/home/ada")


def devices(has_gpu: bool = False, deterministic: bool | None = None, **section):
    train = run_pb2.TrainSpec()
    if deterministic is not None:
        train.deterministic = deterministic
    return device_environment(DevicesSection(**section), train, has_gpu=lambda: has_gpu)


def test_auto_without_a_gpu_is_the_cpu_with_its_number_of_devices():
    assert devices(cpu_count=3) == {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=3",
    }


def test_auto_with_a_gpu_lets_jax_choose_and_asks_for_deterministic_operations():
    assert devices(has_gpu=True) == {"XLA_FLAGS": "--xla_gpu_deterministic_ops=true"}


def test_a_run_may_give_up_determinism():
    assert devices(has_gpu=True, deterministic=False) == {}


def test_visible_devices_are_shown_alone():
    shown = devices(platform="cuda", visible="0,2")
    assert shown["CUDA_VISIBLE_DEVICES"] == "0,2"
    assert shown["JAX_PLATFORMS"] == "cuda"


@pytest.mark.parametrize(
    ("gpus", "section", "said"),
    [
        (0, {"cpu_count": 2}, "cpu, 2"),
        (8, {}, "cuda, 8"),
        (8, {"visible": "0,2"}, "cuda, 2"),
        (8, {"platform": "cpu"}, "cpu, 1"),
        (0, {"platform": "tpu"}, "tpu"),
    ],
)
def test_what_devices_there_are_is_told(gpus, section, said):
    assert told(DevicesSection(**section), lambda: gpus) == said


def test_nothing_is_inherited(monkeypatch):
    monkeypatch.setenv("LD_PRELOAD", "/evil.so")
    monkeypatch.setenv("SECRET", "x")
    built = build_environment(
        python="/v/bin/python", user=USER, devices={"JAX_PLATFORMS": "cpu"}, extra={"A": "b"}
    )
    assert built == {
        "PATH": "/v/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/home/ada",
        "USER": "ada",
        "LOGNAME": "ada",
        "LANG": "C.UTF-8",
        "A": "b",
        "JAX_PLATFORMS": "cpu",
        "PYTHONUNBUFFERED": "1",
        "PYTHONFAULTHANDLER": "1",
        "PYTHONNOUSERSITE": "1",
        "PYTHONSAFEPATH": "1",
    }


def test_the_runs_own_xla_flags_are_kept_beside_ours():
    built = build_environment(
        python="/p", user=USER, devices={"XLA_FLAGS": "--ours"}, extra={"XLA_FLAGS": "--theirs"}
    )
    assert built["XLA_FLAGS"] == "--theirs --ours"


@pytest.mark.parametrize(
    "name", ["LD_PRELOAD", "LD_LIBRARY_PATH", "PYTHONPATH", "JAX_PLATFORMS", "CUDA_VISIBLE_DEVICES"]
)
def test_variables_that_change_code_or_devices_are_refused(name):
    (problem,) = environment_problems({name: "x", "FINE": "y"})
    assert problem.field == f"trainer.env.{name}"
    assert problem.suggestion


def test_names_and_values_that_no_environment_can_hold_are_refused():
    assert len(environment_problems({"": "x", "A=B": "x", "C": "\0"})) == 3


def test_a_device_set_is_locked_once_until_the_last_holder_is_gone(tmp_path):
    section = DevicesSection(platform="cuda", visible="0")
    lock = DeviceLock.take(tmp_path, section)
    inherited = os.dup(lock.descriptor)
    lock.close()
    with pytest.raises(DevicesBusy):
        DeviceLock.take(tmp_path, section)
    DeviceLock.take(tmp_path, DevicesSection(platform="cuda", visible="1")).close()
    os.close(inherited)
    DeviceLock.take(tmp_path, section).close()

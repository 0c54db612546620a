"""What *device-bound* means: an environment that shows a trainer its devices, and a kernel lock."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from trainerd.actors.launcher.config import DevicesSection
from trainerd.v1 import run_pb2

OWNED_VARIABLES = frozenset(
    {"JAX_PLATFORMS", "CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"}
)
"""Variables that bind devices; a run may not set them."""


def has_nvidia_gpu() -> bool:
    """Whether the kernel's driver shows an NVIDIA device."""
    return nvidia_gpus() > 0


def nvidia_gpus() -> int:
    """How many NVIDIA devices the kernel's driver shows."""
    return len(list(Path("/dev").glob("nvidia[0-9]*")))


def resolved_platform(devices: DevicesSection, has_gpu: Callable[[], bool]) -> str:
    """The platform `auto` stands for on this host."""
    if devices.platform != "auto":
        return devices.platform
    return "cuda" if has_gpu() else "cpu"


def told(devices: DevicesSection, gpus: Callable[[], int] = nvidia_gpus) -> str:
    """What trainers are bound to, in a word or two; nothing is opened for it.

    As many as JAX will find where that can be known without it.
    """
    platform = resolved_platform(devices, lambda: gpus() > 0)
    if platform == "cpu":
        return f"cpu, {devices.cpu_count}"
    if devices.visible != "all":
        return f"{platform}, {len(devices.visible.split(','))}"
    return f"cuda, {gpus()}" if platform == "cuda" else platform


def device_environment(
    devices: DevicesSection, train: run_pb2.TrainSpec, *, has_gpu: Callable[[], bool]
) -> dict[str, str]:
    """Environment variables that bind a trainer to the devices; XLA_FLAGS holds our flags only."""
    platform = resolved_platform(devices, has_gpu)
    variables = {}
    # With `auto` and a GPU, jax chooses: the user's Python may have been installed without CUDA.
    if devices.platform != "auto" or platform == "cpu":
        variables["JAX_PLATFORMS"] = platform
    if devices.visible != "all":
        variables[_VISIBLE.get(platform, "CUDA_VISIBLE_DEVICES")] = devices.visible
    deterministic = not train.HasField("deterministic") or train.deterministic
    match platform:
        case "cpu":
            flag = f"--xla_force_host_platform_device_count={devices.cpu_count}"
            variables["XLA_FLAGS"] = flag
        case "cuda" | "rocm" if deterministic:
            variables["XLA_FLAGS"] = "--xla_gpu_deterministic_ops=true"
        case _:
            pass
    return variables


_VISIBLE = {"cuda": "CUDA_VISIBLE_DEVICES", "rocm": "ROCR_VISIBLE_DEVICES"}


class DevicesBusy(Exception):
    """Another process holds the devices."""


@dataclass(slots=True)
class DeviceLock:
    """The kernel lock of a device set. The trainer inherits it: it is free when that is gone."""

    descriptor: int

    @classmethod
    def take(cls, state_directory: Path, devices: DevicesSection) -> DeviceLock:
        """Lock, or raise `DevicesBusy` at once."""
        directory = state_directory / "locks"
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        name = f"devices-{devices.platform}-{devices.visible.replace(',', '.')}.lock"
        descriptor = os.open(directory / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise DevicesBusy(
                f"the devices ({devices.platform}, {devices.visible}) are held by a process that "
                f"a trainer left behind; it must end first"
            ) from None
        except BaseException:
            os.close(descriptor)
            raise
        return cls(descriptor)

    def close(self) -> None:
        """Give up this process's share; a trainer that inherited the lock keeps it."""
        os.close(self.descriptor)

"""What is looked at before anything of a run is started here: is it allowed, can it run."""

from __future__ import annotations

from collections.abc import Callable

from trainerd.actors.launcher import devices, environment, interpreter
from trainerd.actors.launcher.config import LauncherConfig
from trainerd.actors.launcher.processes import Children
from trainerd.actors.launcher.programs import Programs
from trainerd.actors.launcher.refusals import changed_meanwhile, refuse_problems
from trainerd.actors.launcher.runs import RunFiles
from trainerd.actors.launcher.standby_key import Wanted
from trainerd.actors.launcher.standbys import Standbys
from trainerd.v1 import launcher_pb2


class Acceptance:
    """Says what a trainer of an assignment is started with, or refuses it."""

    def __init__(
        self,
        config: LauncherConfig,
        children: Children,
        standbys: Standbys,
        has_gpu: Callable[[], bool],
    ) -> None:
        self._config, self._children, self._standbys = config, children, standbys
        self._programs = Programs(config.programs, config.state)
        self._has_gpu = has_gpu

    async def accepted(
        self, assignment: launcher_pb2.Assignment, files: RunFiles
    ) -> tuple[launcher_pb2.Assignment, Wanted]:
        """The assignment with its real paths, and what its trainer is started with.

        Raise `Refused` with all that is wrong with it.
        """
        assignment = self._programs.resolved_in(assignment)
        spec = assignment.spec
        python = interpreter.resolved_python(spec.trainer)
        variables = environment.build_environment(
            python=python,
            user=environment.User.current(),
            devices=devices.device_environment(
                self._config.devices, spec.train, has_gpu=self._has_gpu
            ),
            extra=dict(spec.trainer.env),
        )
        wanted = Wanted.of(
            assignment, python=python, variables=variables, directory=str(files.root)
        )
        problems = self._programs.problems(spec)
        if not (problems or self._standbys.fits(wanted)):
            # A standby would have shown what there is to know of its interpreter.
            problems = await interpreter.probe_problems(python, variables, self._children)
        refuse_problems(problems)
        return assignment, wanted

    def refuse_if_changed(self, assignment: launcher_pb2.Assignment) -> None:
        """Raise `Refused` if an accepted one's paths lead elsewhere now: ask right before exec."""
        if not self._programs.unchanged(assignment.spec):
            raise changed_meanwhile()

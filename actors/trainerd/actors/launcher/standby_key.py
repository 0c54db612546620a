"""For which trainers a standby is good."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from trainerd.v1 import launcher_pb2


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a trainer is started with: a standby is good for those that are started with just this.

    The whole environment is in it: module-level code may have read any of it.
    """

    run: str
    python: str
    variables: tuple[tuple[str, str], ...]
    directory: str
    path: tuple[str, ...]
    module: str

    @classmethod
    def of(
        cls,
        assignment: launcher_pb2.Assignment,
        *,
        python: str,
        variables: Mapping[str, str],
        directory: str,
    ) -> Wanted:
        """That of an assignment; `directory` is where it starts unless it says otherwise."""
        spec = assignment.spec
        return cls(
            run=assignment.run,
            python=python,
            variables=tuple(sorted(variables.items())),
            directory=spec.trainer.workdir or directory,
            path=tuple(spec.trainer.path),
            module=spec.entry.partition(":")[0],
        )

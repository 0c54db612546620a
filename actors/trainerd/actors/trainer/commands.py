"""What the daemon's commands do in a trainer."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass

from trainerd.actors.errors import PlanError
from trainerd.actors.reports import Controls, FinishReason
from trainerd.actors.rules import Rulebook
from trainerd.actors.trainer.decisions import DecisionSlot
from trainerd.actors.trainer.policies import build_rules
from trainerd.actors.trainer.profiling import Wanted
from trainerd.v1 import event_pb2, inject_pb2, trainer_pb2

_REASONS = {
    event_pb2.FINISH_REASON_STOPPED: FinishReason.STOPPED,
    event_pb2.FINISH_REASON_PREEMPTED: FinishReason.PREEMPTED,
    event_pb2.FINISH_REASON_DECIDED: FinishReason.DECIDED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Commands:
    """Turns commands into requests to the loop. Called from the link's thread."""

    controls: Controls
    decisions: DecisionSlot
    rulebook: Rulebook
    arm: Callable[[inject_pb2.ArmedInjection], None]
    profile: Callable[[Wanted], None]

    def obey(self, command: trainer_pb2.AttachResponse) -> None:
        """Carry out a command; greetings and acknowledgements are the link's own."""
        match command.WhichOneof("payload"):
            case "pause":
                self.controls.pause()
            case "resume":
                self.controls.resume()
            case "save_checkpoint":
                self.controls.save(command.save_checkpoint.request_id)
            case "stop":
                reason = _REASONS.get(command.stop.reason, FinishReason.STOPPED)
                self.controls.stop(reason, save=command.stop.save)
            case "decision":
                if not self.decisions.offer(command.decision):
                    print(
                        f"trainerd: a decision came that no fault waits for, and is ignored: "
                        f"{command.decision.reason}",
                        file=sys.stderr,
                    )
            case "set_policy":
                self._set_policy(command.set_policy)
            case "inject":
                self._inject(command.inject)
            case "profile":
                order = command.profile
                self.profile(
                    Wanted(
                        request_id=order.request_id, steps=order.steps, directory=order.directory
                    )
                )
            case unknown:
                print(f"trainerd: command {unknown} is not known here", file=sys.stderr)

    def _set_policy(self, order: trainer_pb2.SetPolicy) -> None:
        try:
            self.rulebook.change(build_rules(order.policy, order.version))
        except PlanError as error:
            # A newer daemon may allow what is not known here; the old rules stay.
            print(f"trainerd: policy {order.version} is not followed: {error}", file=sys.stderr)

    def _inject(self, armed: inject_pb2.ArmedInjection) -> None:
        try:
            self.arm(armed)
        except ValueError as error:
            print(f"trainerd: injection {armed.number} is not known: {error}", file=sys.stderr)

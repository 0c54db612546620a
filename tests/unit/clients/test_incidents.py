"""`trainerctl incidents` and `incident`."""

from __future__ import annotations

from collections.abc import Callable

from google.protobuf.timestamp_pb2 import Timestamp

from trainerd.v1 import control_pb2 as api
from trainerd.v1 import fault_pb2, incident_pb2
from unit.clients.ended import Ended
from unit.clients.fake_control import FakeControl

Ctl = Callable[..., Ended]


def incident(number: int = 3) -> incident_pb2.Incident:
    fault = fault_pb2.Fault(
        **{"class": fault_pb2.FAULT_CLASS_HANG}, message="no progress\nfor 9 s", detail="evidence"
    )
    return incident_pb2.Incident(
        number=number,
        run="demo-1a2b",
        incarnation=2,
        host="h",
        time=Timestamp(seconds=1_700_000_000),
        fault=fault,
        decision=fault_pb2.Decision(
            action=fault_pb2.ACTION_RESTART, scope="process", reason="hang 1 in 600 s, limit 3"
        ),
        step=1234,
        durable_step=1200,
        versions={"python": "3.11", "jax": "0.10"},
    )


def test_incidents_are_listed_a_line_each(fake: FakeControl, ctl: Ctl) -> None:
    fake.answer("ListIncidents", api.ListIncidentsResponse(incidents=[incident(3), incident(4)]))
    ended = ctl("incidents", "demo", "--address", fake.address)
    assert (ended.code, ended.err) == (0, "")
    first, second = ended.out.splitlines()
    assert first.startswith("   3  ")
    assert first.endswith("hang → restart at step 1,234: no progress for 9 s")
    assert second.startswith("   4  ")
    fake.answer("ListIncidents", api.ListIncidentsResponse())
    assert ctl("incidents", "demo", "--address", fake.address).out == "no incidents\n"


def test_an_incident_is_shown_with_its_evidence(fake: FakeControl, ctl: Ctl) -> None:
    evidence = incident_pb2.IncidentEvidence(
        last_steps=[incident_pb2.StepSample(step=n, loss=2.5, gradient_norm=0.5, duration_s=0.25)
                    for n in range(1, 65)],
        memory=incident_pb2.MemoryUse(resident_bytes=2_000_000, device_bytes=1000),
        stacks="Thread 1\x1b[31m:\n  hang",
        log_tail="\n".join(f"line {n}" for n in range(100)),
    )  # fmt: skip
    response = api.GetIncidentResponse(incident=incident(), evidence=evidence, directory="/i/3")
    fake.answer("GetIncident", response)
    ended = ctl("incident", "demo", "3", "--address", fake.address)
    assert fake.requests["GetIncident"][0].number == 3
    lines = ended.out.splitlines()
    assert lines[0] == "incident    3 of demo-1a2b"
    assert "trainer     incarnation 2 on h" in lines
    assert "fault       hang: no progress for 9 s" in lines
    assert "decision    restart the process: hang 1 in 600 s, limit 3" in lines
    assert "step        1,234, durable: step 1,200" in lines
    assert "memory      2.0 MB resident, 1.0 kB on the device" in lines
    assert "versions    jax 0.10, python 3.11" in lines
    assert "files       /i/3" in lines
    steps = [line for line in lines if line.startswith("  step ")]
    assert len(steps) == 10
    assert steps[-1] == "  step 64: loss 2.5000, gradient norm 0.5000, 0.25 s"
    assert "  Thread 1[31m:" in lines
    assert lines[-40:] == [f"  line {n}" for n in range(60, 100)]
    document = ctl("incident", "demo", "--address", fake.address, "--json").document
    assert fake.requests["GetIncident"][1].number == 0
    assert document["evidence"]["logTail"] == evidence.log_tail
    assert document["incident"]["decision"]["action"] == "ACTION_RESTART"


def test_what_is_not_known_is_left_out(fake: FakeControl, ctl: Ctl) -> None:
    bare = incident_pb2.Incident(number=1, run="demo", incarnation=1, durable_step=-1)
    fake.answer("GetIncident", api.GetIncidentResponse(incident=bare))
    out = ctl("incident", "demo", "1", "--address", fake.address).out
    assert "durable: none" in out
    for word in ("memory", "versions", "stacks", "log", "last steps", "what to do"):
        assert word not in out

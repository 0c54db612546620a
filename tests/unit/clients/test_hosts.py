"""hosts, drain and undrain: what people see of a cluster."""

from __future__ import annotations

from trainerd.clients.host_report import hosts_table, state_of
from trainerd.v1 import control_pb2

OWN = control_pb2.Host(
    name="a", supervisor=True, joined=True, linked=True, software="1.2", clock_offset_s=0.0
)
TRAINING = control_pb2.Host(
    name="b",
    joined=True,
    linked=True,
    run="lm-1a2b3c",
    process=1,
    devices="gpu, 8",
    software="1.2",
    clock_offset_s=-0.0042,
    clock_error_s=0.00031,
)
LOST = control_pb2.Host(name="c", draining=True, problem="it said nothing for 2.6 s")


def test_hosts_are_a_table_and_what_is_wrong_is_said_below_it() -> None:
    assert hosts_table([OWN, TRAINING, LOST]) == [
        "HOST            STATE          RUN           DEVICES  CLOCK             TRAINERD",
        "a (supervisor)  linked         -             -        0                 1.2",
        "b               linked         lm-1a2b3c #1  gpu, 8   -4.2 ms ± 0.3 ms  1.2",
        "c               lost, drained  -             -        -                 -",
        "c: it said nothing for 2.6 s",
    ]


def test_a_host_without_its_launcher_is_no_lost_one() -> None:
    assert state_of(control_pb2.Host(joined=True)) == "no launcher"
    assert state_of(control_pb2.Host(joined=True, linked=True, draining=True)) == "linked, drained"

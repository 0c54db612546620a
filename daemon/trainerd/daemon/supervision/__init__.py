"""The supervisor: a pure state machine. No I/O, clock, randomness or logging in this package.

`supervisor.step(state, event, now=…)` returns the next state and the commands it causes. Everything
around it (journal, links, timers, metrics) lives outside and feeds results back as events.
"""

"""The standby: a process that has imported what a run's trainer imports, and forks trainers.

It holds no device, no gRPC channel and one thread, so that a fork of it is as good as a new
process. Nothing here but `preloading` imports jax, and only in the standby itself.

What a forked trainer shares with its siblings, and a new process would not: what module-level code
computed when it ran (once, in the standby, under the same environment, arguments and directory),
and the seed of string hashing. The global generators of `random` and numpy are seeded anew.
"""

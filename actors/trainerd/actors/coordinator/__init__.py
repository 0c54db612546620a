"""The coordination service of a gang, in a process of its own: no trainer is special.

JAX keeps it in the first trainer by default, whose death then ends all others at once. It needs no
device, and of JAX the runtime library alone.
"""

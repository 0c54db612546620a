"""The host actor: starts, reaps and kills trainer processes, and binds them to the devices.

Runs in a process of its own, as the user that the programs run as. Never imports jax.
"""

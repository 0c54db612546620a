"""The trainer process around the training library: its link to the daemon, its birth and its end.

Nothing here but `main`, after the link is up, imports jax.
"""

"""The trainerd daemon: supervisor, journal, control service, links. Never imports jax."""

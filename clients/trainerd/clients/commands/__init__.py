"""The subcommands of `trainerctl`: each takes its arguments and a session, returns an exit code."""

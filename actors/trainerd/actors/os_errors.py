"""What an OSError means for checkpoints, in the words of the fault matrix."""

from __future__ import annotations

import errno

_REASONS = {
    errno.ENOENT: "not_found",
    errno.ENOTDIR: "not_found",
    # A file where the directory is to be.
    errno.EEXIST: "not_found",
    errno.EACCES: "permission_denied",
    errno.EPERM: "permission_denied",
    errno.ENOSPC: "no_space",
    errno.EDQUOT: "no_space",
    errno.EROFS: "read_only",
    errno.ETIMEDOUT: "timeout",
}


def os_error_reason(error: OSError) -> str:
    """The reason that its number stands for; "io_error" for every other one."""
    return _REASONS.get(error.errno or 0, "io_error")

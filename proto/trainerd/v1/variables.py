"""Environment variables that no run may set, whatever else an operator allows."""

from __future__ import annotations

PREFIXES = ("LD_", "PYTHON")
"""What the dynamic linker and the interpreter read before the first line of a program runs."""

NAMES = frozenset(
    {
        "BASH_ENV",  # a file that every shell of the program would run
        "CUDA_INJECTION64_PATH",  # a library that CUDA would load
        "ENV",
        "GCONV_PATH",  # modules that the C library would load
        "GLIBC_TUNABLES",
        "OPENSSL_CONF",
        "OPENSSL_ENGINES",
        "OPENSSL_MODULES",
    }
)
"""Further names that say which code is loaded where nobody asks for any."""

MOST_VALUE_BYTES = 100_000
"""Of one variable; the kernel's limit for one is 131,072."""
MOST_BYTES = 500_000
"""Of all of them."""


def refusal(name: str, value: str) -> str | None:
    """Why a variable may not be set, as the end of a sentence that begins with it; or None."""
    if name.startswith(PREFIXES) or name in NAMES:
        return "may not be set: it changes which code is loaded"
    if len(value.encode(errors="surrogateescape")) > MOST_VALUE_BYTES:
        return f"has more than {MOST_VALUE_BYTES} bytes"
    return None

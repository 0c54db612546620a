"""`python -m trainerd.clients` is `trainerctl`."""

from __future__ import annotations

import sys

from trainerd.clients.main import main

if __name__ == "__main__":
    sys.exit(main())

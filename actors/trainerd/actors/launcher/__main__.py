"""`python -m trainerd.actors.launcher`."""

import sys

from trainerd.actors.launcher.main import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""`python -m trainerd.daemon` is `trainerd`."""

import sys

from trainerd.daemon.main import main

sys.exit(main())

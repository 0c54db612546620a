"""`ops/install`: makes trainerd a pair of services of this machine, or removes them.

Running it again upgrades: the new version is made beside the old one, a link is switched, the
daemon is restarted; the launcher and its trainers are not. Exits 0 if all is done, 1 if something
is missing, 2 for wrong arguments.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import program
import services
from places import Places
from work import InstallError, Work, say


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="ops/install", description=__doc__.partition("\n")[0])
    made.add_argument("--wheel", type=Path, help="install this wheel; default: build this tree")
    made.add_argument(
        "--extra", action="append", default=[], choices=("cuda", "examples"), help="with these too"
    )
    made.add_argument(
        "--system-packages",
        action="store_true",
        help="use the packages that the interpreter has (a vendor's jax), install only trainerd",
    )
    made.add_argument("--enable", action="store_true", help="start now, and with the machine")
    made.add_argument("--uninstall", action="store_true", help="remove; state and users stay")
    made.add_argument("--purge", action="store_true", help="remove state, settings and users too")
    made.add_argument("--root", type=Path, default=Path("/"), help="stage into this directory")
    made.add_argument("--dry-run", action="store_true", help="say what would be done")
    return made


def main() -> int:
    """Install or remove."""
    arguments = parser().parse_args()
    if arguments.purge and not arguments.uninstall:
        parser().error("--purge goes with --uninstall")
    places = Places(arguments.root.resolve())
    if os.geteuid() != 0 and not (places.staged or arguments.dry_run):
        say("must be root; or stage into a directory: --root DIR")
        return 1
    os.umask(0o022)
    work = Work(dry=arguments.dry_run)
    try:
        if arguments.uninstall:
            services.remove(places, work, purge=arguments.purge)
        else:
            wanted = program.Wanted(
                wheel=arguments.wheel,
                extras=tuple(arguments.extra),
                system_packages=arguments.system_packages,
            )
            switched = program.install(places, wanted, work)
            changed = services.install(places, work)
            services.tell_system(
                places, work, enable=arguments.enable, changed=changed, switched=switched
            )
            program.remove_unused(places, work)
    except (InstallError, OSError) as error:
        print(f"install: {error}", file=sys.stderr)
        return 1
    if not work.done:
        say("nothing to do")
    return 0


if __name__ == "__main__":
    sys.exit(main())

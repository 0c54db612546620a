"""`python -m trainerd.actors.standby`: started by the launcher, spoken to on a socket."""

from trainerd.actors.trainer import birth

if __name__ == "__main__":
    birth.die_with_launcher()

    from trainerd.actors.standby.main import main

    main()

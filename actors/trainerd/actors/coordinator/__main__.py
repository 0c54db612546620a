"""`python -m trainerd.actors.coordinator`: started and ended by the launcher."""

from trainerd.actors.trainer import birth

if __name__ == "__main__":
    birth.die_with_launcher()

    from trainerd.actors.coordinator.main import main

    main()

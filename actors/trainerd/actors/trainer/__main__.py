"""`python -m trainerd.actors.trainer`: started by the launcher, told what to do on stdin."""

from trainerd.actors.trainer import birth

if __name__ == "__main__":
    # Before anything heavy is imported: a launcher that dies meanwhile takes this process along.
    birth.die_with_launcher()

    from trainerd.actors.trainer.main import main

    main(birth.read_assignment())

"""`python -m datablame`, and the `datablame` command."""

import os
import sys


def main() -> None:
    # Threads that wait by spinning make a step many times slower as soon as anything else runs on
    # the machine.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from datablame.cli import main as run

    sys.exit(run())


if __name__ == "__main__":
    main()

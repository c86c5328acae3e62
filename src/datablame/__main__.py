"""`python -m datablame`, and the `datablame` command."""

import sys


def main() -> None:
    from datablame.cli import main as run

    sys.exit(run())


if __name__ == "__main__":
    main()

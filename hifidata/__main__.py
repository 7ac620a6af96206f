"""``python -m hifidata``: the same as the command ``hifidata``."""

from hifidata.cli.main import main

if __name__ == "__main__":
    main()

"""`python -m ni` is the command `ni`."""

from ni.cli import main

if __name__ == "__main__":
    main()

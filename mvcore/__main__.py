"""``python -m mvcore``: the command line."""

from mvcore.cli import main

if __name__ == "__main__":
    main(prog_name="mvcore")

"""``python -m mvcore.cli``, for launchers that start modules, such as torchrun."""

from mvcore.cli import main

if __name__ == "__main__":
    main(prog_name="mvcore")

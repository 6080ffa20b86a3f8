"""Makes `python -m broker` the same as `greenroom`."""

from broker.cli import main

if __name__ == "__main__":
    main(prog_name="greenroom")

"""`python -m wavefold` is the command `wavefold`; `torchrun -m wavefold` starts it in several processes."""

from wavefold.cli import main

if __name__ == "__main__":
    main(prog_name="wavefold")

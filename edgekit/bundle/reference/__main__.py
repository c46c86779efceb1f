"""``python -m edgekit_model FOLDER INPUT...`` answers raw inputs; without inputs it runs the self-test."""

import sys
from pathlib import Path

from . import Model, self_test


def main(arguments: list[str]) -> int:
    """Run one command line; the exit code is 1 when the self-test finds something."""
    if not arguments:
        sys.stderr.write("usage: python -m edgekit_model FOLDER [INPUT...]\n")
        return 2
    folder, *inputs = arguments
    if not inputs:
        problems = self_test(Path(folder))
        sys.stdout.write("".join(f"{line}\n" for line in problems) or "self-test passed\n")
        return 1 if problems else 0
    model = Model.load(folder)
    for raw in inputs:
        label, score = model.predict(raw)[0]
        sys.stdout.write(f"{label}\t{score:.4f}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

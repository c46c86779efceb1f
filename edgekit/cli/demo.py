"""``edgekit demo``: the whole line on a model of its own."""

from __future__ import annotations

from edgekit.cli import options, output
from edgekit.cli.compress import print_report

EXAMPLES = """
edgekit demo
edgekit demo -o ./demo-out
"""


def demo(
    *,
    out: options.Output = None,
    jobs: options.Jobs = None,
    json_: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Train a small image classifier on scikit-learn's digits, and compress it for this machine.

    Needs no network and no data; takes at most three minutes on two
    cores.
    """
    with output.work(quiet=quiet) as progress:
        from edgekit.demo import demo as run_demo

        report = run_demo(output=out, jobs=jobs, progress=progress)
    print_report(report, json_=json_)

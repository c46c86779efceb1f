"""``edgekit doctor``: is this machine ready, and what is missing."""

from __future__ import annotations

import typer

from edgekit.cli import options, output
from edgekit.errors import HostError

EXAMPLES = """
edgekit doctor
edgekit doctor --json
"""


def doctor(*, json_: options.Json = False, quiet: options.Quiet = False) -> None:
    """Check this machine: packages, processor, targets, runtimes, memory, disks, load, hub.

    Each gap is told with its fix. Exits with 3 when something that a
    run needs is missing; warnings do not count.
    """
    with output.work(quiet=quiet) as progress:
        from edgekit.diagnosis import examine

        record = examine(progress=progress)
    if json_:
        output.print_document(record)
    else:
        from edgekit.render.diagnosis import doctor_view

        output.print_view(lambda _: doctor_view(record))
    if not record.passed:
        raise typer.Exit(HostError.exit_code)

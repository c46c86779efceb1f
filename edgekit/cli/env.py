"""``edgekit env``: what a bug report needs."""

from __future__ import annotations

from edgekit.cli import options, output

EXAMPLES = """
edgekit env
edgekit env --json
"""


def env(*, json_: options.Json = False) -> None:
    """Tell what a bug report needs: versions, processor, memory, targets, settings.

    It holds no user, host or folder names, so that it can be pasted as
    it is.
    """
    from edgekit.diagnosis import describe_environment

    record = describe_environment()
    if json_:
        output.print_document(record)
    else:
        from edgekit.render.diagnosis import env_view

        output.print_view(lambda _: env_view(record))

"""The page of one run."""

from __future__ import annotations

from edgekit.render.html.document import document
from edgekit.render.html.inside import inside
from edgekit.render.html.latency import latency
from edgekit.render.html.ledger import ledger
from edgekit.render.html.origin import repeat, sizes, trust
from edgekit.render.html.profile import profile
from edgekit.render.html.quality import cost
from edgekit.render.html.search import search
from edgekit.render.html.verdict import head, limits
from edgekit.report import Report

CONTENTS = (
    ("limits", "Limits"),
    ("stages", "Stages"),
    ("search", "Search"),
    ("cost", "Cost"),
    ("latency", "Latency"),
    ("profile", "Operators"),
    ("inside", "Inside"),
    ("size", "Size"),
    ("trust", "Trust"),
    ("repeat", "Repeat"),
)


def report_page(report: Report) -> str:
    """A report as one HTML file.

    Args:
        report: one that knows where its artifact lies.
    """
    name = report.source.get("name") or "a model"
    return document(
        f"{name} for {report.target}",
        head(report),
        limits(report),
        ledger(report),
        search(report),
        cost(report),
        latency(report),
        profile(report),
        inside(report),
        sizes(report),
        trust(report),
        repeat(report),
        contents=[entry for entry in CONTENTS if entry[0] != "search" or report.search is not None],
        foot=f"Made by edgekit {report.edgekit} from report.json, which has every figure with its raw samples.",
    )

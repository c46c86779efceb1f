"""Pictures of a bundle's page for these docs: ``python docs/page_screenshots.py BUNDLE`` after its ``npm run build``.

Writes docs/assets/bundle-web-*.png at the width of a desktop and of a phone, and prints what the page says. It needs
Chromium.
"""

from __future__ import annotations

import sys
from pathlib import Path

from edgekit.devices.browser import served
from edgekit.devices.chromium import Chromium, find_chromium

SIZES = {"desktop": (1200, 800, 1), "phone": (390, 844, 2)}
SECONDS = 600
STATE = "document.getElementById('selftest')?.dataset.state"
SHOWN = "document.getElementById('median')?.textContent.endsWith('s')"
KEPT = "document.getElementById('kept')?.hidden === false"


def main(bundle: Path, name: str = "bundle-web") -> int:
    """Open the page, wait for its self-test, take the pictures."""
    assets = Path(__file__).with_name("assets")
    with Chromium(find_chromium() or "chromium") as browser, served(bundle / "public") as address:
        browser.resize(*SIZES["desktop"])
        browser.open(f"{address}/")
        browser.wait_for(f"{STATE} === 'passed' || {STATE} === 'failed'", SECONDS)
        browser.wait_for(SHOWN, SECONDS)
        if browser.evaluate(STATE) == "passed":
            browser.wait_for(KEPT, SECONDS)
        sys.stdout.write(str(browser.evaluate("document.body.innerText")) + "\n")
        for size, (width, height, scale) in SIZES.items():
            browser.screenshot(assets / f"{name}-{size}.png", width, height, scale)
        return 0 if browser.evaluate(STATE) == "passed" else 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), *sys.argv[2:3]))

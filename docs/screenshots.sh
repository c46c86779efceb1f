#!/usr/bin/env bash
# Pictures of report pages for these docs: docs/screenshots.sh RUN [RUN2 ...] writes docs/assets/report-*.png.
# The first run's own page, and the comparison of all of them where there are several; at the width of a phone and of a
# desktop, light and dark. Needs chromium (Debian: apt-get install chromium).
set -euo pipefail
[ $# -ge 1 ] || { sed -n '2,4p' "$0" >&2; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
pages=$(mktemp -d)
trap 'rm -rf "$pages"' EXIT

edgekit report "$1" -o "$pages/run.html" >/dev/null
if [ $# -gt 1 ]; then
    edgekit report "$@" -o "$pages/compared.html" >/dev/null
fi
for page in "$pages"/*.html; do
    for size in phone:390,1500 desktop:1280,1100; do
        for scheme in dark:0 light:1; do
            chromium --headless=new --no-sandbox --hide-scrollbars --host-resolver-rules='MAP * ~NOTFOUND' \
                --window-size="${size#*:}" --blink-settings="preferredColorScheme=${scheme#*:}" \
                --screenshot="$here/assets/report-$(basename "$page" .html)-${size%%:*}-${scheme%%:*}.png" \
                "file://$page" 2>/dev/null
        done
    done
done
ls -l "$here"/assets/report-*.png

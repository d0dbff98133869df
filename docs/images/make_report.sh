#!/usr/bin/env bash
# Draws `report.png`, the picture in the README: trains on the bundled sample for two minutes, writes the report, and takes a picture of its
# first screen.
#
#   usage: bash docs/images/make_report.sh [GHOSTNET]     GHOSTNET is the program, by default target/debug/ghostnet
#   needs: chromium, fonts-dejavu-core
set -euo pipefail
cd "$(dirname "$0")/../.."

ghostnet=${1:-target/debug/ghostnet}
picture=$PWD/docs/images/report.png
max_bytes=300000
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$ghostnet" train --quiet --config ghostnet_1x.toml --device cpu --out "$work/ghostnet_1x"
"$ghostnet" report --quiet "$work/ghostnet_1x" --device cpu --out "$work/report.html"
# Without the sandbox, Chromium also runs as root in a container.
chromium --headless --no-sandbox --disable-gpu --hide-scrollbars --force-prefers-reduced-motion --user-data-dir="$work/chromium" \
  --window-size=1200,1120 --screenshot="$work/report.png" "file://$work/report.html" 2>"$work/chromium.log" ||
  { cat "$work/chromium.log" >&2; exit 1; }

bytes=$(stat --format=%s "$work/report.png")
if [ "$bytes" -gt "$max_bytes" ]; then
  echo "the picture has $bytes bytes, more than $max_bytes" >&2
  exit 1
fi
mv "$work/report.png" "$picture"
echo "$picture: $bytes bytes"

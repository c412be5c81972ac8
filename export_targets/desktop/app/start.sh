#!/bin/sh
# Starts the app on Linux and macOS. The first start installs what it needs into .venv, beside
# this file.
set -eu
cd "$(dirname "$0")"
if [ ! -f .venv/installed ]; then
  echo "Installing what the app needs into .venv, once: 470 MB on the disk, some minutes." >&2
  "${PYTHON:-python3}" -m venv .venv
  .venv/bin/python -m pip install --quiet --requirement requirements.txt
  touch .venv/installed
fi
exec .venv/bin/python -m desktop

#!/usr/bin/env bash
# Debian's Chromium for the browser tests, where it may be installed; elsewhere those tests are skipped and say so.
# Not Playwright's own download: a distribution's package comes through the machine's usual channel.
set -euo pipefail
if command -v chromium > /dev/null; then
  exit 0
fi
if [ "$(id -u)" -eq 0 ] && command -v apt-get > /dev/null; then
  echo "installing Debian's chromium for the browser tests"
  if apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core > /dev/null; then
    exit 0
  fi
fi
echo "no chromium, and it cannot be installed here: the browser tests will be skipped (install the package chromium)" >&2

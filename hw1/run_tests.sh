#!/usr/bin/env bash
# The tests:  bash hw1/run_tests.sh [flags of pytest]
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lab/setup.sh" run report test
cd "$root"
exec "$python" -m pytest -q --numprocesses auto --dist worksteal hw1/tests "$@"

# Sourced by run_all.sh and run_tests.sh: sets $root, $here and $python, a Python with the packages.
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
root=$(dirname "$here")
python=${PYTHON:-python3}

has_packages() {
  "$1" - 2>/dev/null <<'PY'
import sys
from importlib.util import find_spec
packages = "ruff filelock joblib matplotlib numpy pytest scipy sklearn torch torchvision tqdm typst xdist".split()
sys.exit(sys.version_info < (3, 10) or not all(map(find_spec, packages)))
PY
}

if ! has_packages "$python"; then
  python=$root/.venv/bin/python
  if ! has_packages "$python"; then
    echo "Some packages are missing: installing requirements.txt into $root/.venv (once)."
    "${PYTHON:-python3}" -m venv "$root/.venv"
    "$python" -m pip install --quiet --requirement "$root/requirements.txt"
  fi
fi

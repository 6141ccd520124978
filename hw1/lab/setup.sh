# Sourced with the groups of requirements.txt that the caller needs:  source setup.sh run report
# Sets $root, $here and $python, a Python that has their packages: the one of $PYTHON (or python3),
# else the one of .venv, which is made or completed here. A PyTorch that is there is used, not
# installed a second time, whatever its version. bash is for Linux, macOS and WSL.
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
root=$(dirname "$here")
python=${PYTHON:-python3}
unset PYTHONSAFEPATH # the scripts import the files beside them

lacks() { # PYTHON GROUPS...: print the lines of requirements.txt that this Python does not fulfil
  "$1" - "$root/requirements.txt" "${@:2}" <<'PY'
import sys

sys.path = [folder for folder in sys.path if folder]  # not the current folder
import re
from importlib.metadata import PackageNotFoundError, version

def numbers(text):
    return [int(number) for number in re.findall(r"\d+", text.partition("+")[0])]

def found(name):
    try:
        return version(name)
    except PackageNotFoundError:
        return None

group = ""
for line in open(sys.argv[1]):
    if line.startswith("#"):
        group = line[2:].partition(":")[0]
    elif group in sys.argv[2:]:
        name, sign, wanted = re.match(r"([\w-]+)(==|>=)(\S+)", line).groups()
        has = found(name)
        if name.startswith("torch") and found("torch"):
            continue  # any PyTorch will do; only the user can choose a torchvision that fits it
        if not has or numbers(has) < numbers(wanted) or (sign == "==" and has != wanted):
            print(line.strip())
sys.exit(sys.version_info < (3, 10))
PY
}

install() { # GROUPS...: make or complete .venv, beside the packages of $python, and use it
  local base=$python missing site
  missing=$(lacks "$base" "$@" 2>/dev/null) || {
    echo "setup: $base is no Python of version 3.10 or newer: name one with PYTHON=..." >&2
    exit 2
  }
  python=$root/.venv/bin/python
  if [[ $missing == *torch==* ]]; then
    "$base" -m venv "$root/.venv"
  else
    echo "setup: using the PyTorch of $base; what is missing beside it goes into $root/.venv."
    "$base" -m venv --system-site-packages "$root/.venv"
    for site in "$root"/.venv/lib/python*/site-packages; do # $base may be a virtual environment
      "$base" -c 'import sysconfig; print(sysconfig.get_path("purelib"))' >"$site/beside.pth"
    done
  fi
  missing=$(lacks "$python" "$@" 2>/dev/null) || {
    echo "setup: $root/.venv is of no use: delete it, and the same command makes it anew." >&2
    exit 2
  }
  echo "setup: installing into $root/.venv (once):" $missing
  if [[ $missing == *torch==* ]]; then
    echo "setup: With a CPU-only PyTorch this downloads 0.4 GB and takes 1.4 GB on disk; with CUDA"
    echo "setup: several times as much. For a CPU-only PyTorch stop now (Ctrl-C), install it with"
    echo "setup: the command that pytorch.org/get-started shows, and start again: it will be used."
  fi
  "$python" -m pip install --quiet $missing || {
    echo "setup: pip could not install them; the same command tries again." >&2
    exit 1
  }
}

if [ -n "$(lacks "$python" "$@" 2>/dev/null || echo unfit)" ]; then
  if [ -n "$(lacks "$root/.venv/bin/python" "$@" 2>/dev/null || echo unfit)" ]; then
    install "$@"
  else
    python=$root/.venv/bin/python
  fi
fi

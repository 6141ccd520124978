#!/usr/bin/env bash
# Every experiment, every figure, the report; `bash hw1/run_all.sh --help` says how.
set -euo pipefail

help() {
  cat <<'TEXT'
usage: bash hw1/run_all.sh [--quick] [--dataset NAME] [flags of the experiments]

Runs every experiment, then draws every figure and builds the report: into hw1/logs, hw1/figures
and the two Report.pdf. What is finished is kept: the same command goes on where it was stopped.
Packages that are missing are installed into .venv first. Without MNIST or CIFAR-10 and without a
network, everything is run on the 8x8 digits of scikit-learn, under file names that say so.

  --quick            a small version of every figure, into hw1/quick, in little more than a minute;
                     no report
  --dataset NAME     every experiment on one data set: mnist, fashion_mnist, cifar10 or digits; no report
  --data-dir DIR     the folder of the data (default: $HW1_DATA, else data/)
  --out DIR          where logs/, figures/ and checkpoints/ go (default: hw1, or hw1/quick)
  --seeds, --epochs, --device, --jobs, --fresh and the others: the same as for one experiment,
                     shown with their defaults by `python hw1/random_labels.py --help`

Exit code: 0; 1 if a run failed, diverged or did not reach its train loss, or if a figure or the
report could not be made; 2 for a mistake in the flags or in a file; 130 for Ctrl-C.
TEXT
}

tilde() { # expand ~ where the shell did not: --out=~/runs, HW1_DATA="~/data"
  case $1 in
    "~" | "~/"*) echo "$HOME${1#"~"}" ;;
    *) echo "$1" ;;
  esac
}

flags=() dataset="" quick="" out=""
[ -z "${HW1_DATA:-}" ] || export HW1_DATA=$(tilde "$HW1_DATA")
while [ $# -gt 0 ]; do
  case $1 in
    -h | --help) help; exit 0 ;;
    --dataset=* | --data-dir=* | --out=*) set -- "${1%%=*}" "${1#*=}" "${@:2}" ;;
  esac
  case $1 in
    --quick) quick=1 ;;
    --dataset) dataset=${2:-} ;;
    --data-dir) export HW1_DATA=$(tilde "${2:-}") ;;
    --out) out=$(tilde "${2:-}") ;;
  esac
  flags+=("$(tilde "$1")")
  shift
done
if [ -z "$quick$dataset" ]; then groups="run report"; else groups="run"; fi
source "$(dirname "${BASH_SOURCE[0]}")/lab/setup.sh" $groups
out=${out:-$here${quick:+/quick}}

if [ -z "$dataset" ]; then
  reachable=0
  "$python" "$here/lab/files.py" mnist cifar10 || reachable=$?
  if [ $reachable = 3 ]; then
    echo "=================================================================================="
    echo "  MNIST or CIFAR-10 is missing and the network is out of reach: everything below is"
    echo "  run on the 8x8 digits of scikit-learn instead. None of it is MNIST or CIFAR-10."
    echo "=================================================================================="
    dataset=digits
    flags+=(--dataset digits)
  elif [ $reachable != 0 ]; then
    exit $reachable
  fi
fi

# Minutes on two cores (73 to 88 GFLOP/s each), 131 in all, as measured when the committed logs were
# made: at its end an experiment overlaps with the next. Figures carry the names of script and data.
experiments=(
  random_labels:mnist    # 35
  param_sweep:cifar10    # 42
  param_sweep:mnist      # 3
  interpolation:mnist    # 11
  interpolation:cifar10  # 21
  sensitivity:mnist      # 8
  sensitivity:cifar10    # 24
  sharpness:mnist        # 22; also reparametrization_mnist and predictors_*
)
if [ -n "$dataset" ]; then # every script once, on this one
  all=("${experiments[@]%:*}") experiments=() last=""
  for script in "${all[@]}"; do
    [ "$script" = "$last" ] || experiments+=("$script:$dataset")
    last=$script
  done
fi
status=0
"$python" "$here/lab/in_turn.py" "${experiments[@]}" -- ${flags[@]+"${flags[@]}"} || status=$?
[ $status -le 1 ] || exit $status
drawn=0
"$python" "$here/plot_all.py" --out "$out" ${dataset:+--dataset "$dataset"} || drawn=$?
[ $drawn -le 2 ] || exit $drawn
[ $drawn = 0 ] || status=$drawn # a damaged log; the report may not need it

if [ -z "$quick$dataset" ]; then # the report is about the full run
  elsewhere=()
  if [ "$out" != "$here" ]; then elsewhere=(--out "$out"); fi
  "$python" "$here/report/build.py" ${elsewhere[@]+"${elsewhere[@]}"} || status=1
fi

echo "Figures: $out/figures"
exit $status

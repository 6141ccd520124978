#!/usr/bin/env bash
# Every experiment, every figure, the report:
#   bash hw1/run_all.sh [--quick] [--dataset NAME] [any other flag of the experiments]
# Minutes are those of two cores of an AMD EPYC (the logs' .json files have them).
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

flags=("$@") dataset="" out=$here quick=""
for ((i = 0; i < $#; i++)); do
  value=${flags[i + 1]:-}
  case ${flags[i]} in
    --quick) quick=1 ;;
    --dataset) dataset=$value ;;
    --out) given_out=$value ;;
    --data-dir) export HW1_DATA=$value ;;
  esac
done
if [ -n "$quick" ]; then out=$here/quick; fi
out=${given_out:-$out}

if [ -z "$dataset" ]; then
  reachable=0
  "$python" "$here/files.py" mnist cifar10 || reachable=$?
  if [ $reachable = 3 ]; then
    echo "=================================================================================="
    echo "  MNIST or CIFAR-10 is missing and the network is out of reach: everything below is"
    echo "  run on the 8x8 digits of scikit-learn instead. Nothing of it is MNIST or CIFAR-10."
    echo "=================================================================================="
    dataset=digits flags+=(--dataset digits)
  elif [ $reachable != 0 ]; then
    exit $reachable
  fi
fi

status=0 table=""
run() { # script, data set (unless the flags name one)
  if [ -n "$dataset" ]; then set -- "$1"; fi
  local code=0 start=$SECONDS
  "$python" "$here/$1.py" ${2:+--dataset "$2"} ${flags[@]+"${flags[@]}"} || code=$?
  table+=$(printf '%-16s %-8s %6.1f minutes' "$1" "${2:-$dataset}" \
    "$(awk "BEGIN {print ($SECONDS - $start) / 60}")")$'\n'
  if [ $code = 1 ]; then status=1; elif [ $code != 0 ]; then exit $code; fi
}

run random_labels mnist
run param_sweep cifar10
if [ -z "$dataset" ]; then run param_sweep mnist; fi
run interpolation mnist
run sensitivity mnist
if [ -z "$dataset" ]; then run sensitivity cifar10; fi
run sharpness mnist
"$python" "$here/plot_all.py" --out "$out" ${dataset:+--dataset "$dataset"}
printf '\n%s' "$table"
exit $status

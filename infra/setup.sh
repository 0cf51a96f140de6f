#!/usr/bin/env bash
# Make .venv with the pinned environment, once. `infra/setup.sh` for running, `infra/setup.sh dev` for tests and lint too.
#
#   ACCELERATOR=cpu|gpu    which onnxruntime; default: gpu where `nvidia-smi` answers
#   PYTHON=python3.12      which interpreter; default: the first of 3.11 to 3.14 that is there
#   TORCH_INDEX_URL=...    another index for torch, such as PyTorch's own of CPU builds (PyPI's bring 3 GB of CUDA on Linux)
#   INSTALLER=uv|pip       default: uv where pip can fetch it
#   MIN_FREE_GB=6          disk that must be free before anything is installed
#
# The stamp is written last, and a mark stands while packages are copied: a set-up that was stopped begins anew at the next call,
# since installers take a package whose files are half there for an installed one.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly VENV=.venv STAMP=.venv/acclimate.stamp LOG=.venv/setup.log UNFINISHED=.venv/acclimate.unfinished
readonly EXTRA=${1:-run}
PYTHON_VERSIONS="3.11 3.12 3.13 3.14" # as far as pyproject.toml's requires-python

say() { printf 'set-up: %s\n' "$*"; }
fail() {
  printf 'set-up: %s\n' "$*" >&2
  exit 1
}

case $EXTRA in run | dev) ;; *) fail "unknown argument '$EXTRA'; allowed: run, dev" ;; esac

accelerator() {
  case ${ACCELERATOR:-} in
    cpu | gpu) echo "$ACCELERATOR" ;;
    "") if command -v nvidia-smi >/dev/null && nvidia-smi -L >/dev/null 2>&1; then echo gpu; else echo cpu; fi ;;
    *) fail "ACCELERATOR is '$ACCELERATOR'; allowed: cpu, gpu" ;;
  esac
}

# A virtual environment holds absolute paths, so the place belongs to the fingerprint.
fingerprint() { { cat pyproject.toml constraints.txt infra/setup.sh && echo "$1 $PWD"; } | cksum | tr ' ' -; }

version_fits() {
  local version
  version=$("$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || return 1
  [[ " $PYTHON_VERSIONS " == *" $version "* ]]
}

find_python() {
  if [ -n "${PYTHON:-}" ]; then
    version_fits "$PYTHON" || fail "PYTHON=$PYTHON does not run or is not one of: $PYTHON_VERSIONS (torch 2.13.0 and pyproject.toml)"
    echo "$PYTHON"
    return
  fi
  local candidate
  for candidate in $(printf 'python%s ' $PYTHON_VERSIONS) python3 python; do
    if version_fits "$candidate"; then
      echo "$candidate"
      return
    fi
  done
  fail "no Python of the versions $PYTHON_VERSIONS found on PATH ($(python3 --version 2>&1 || echo 'no python3')); install one or name it: PYTHON=/path/to/python3.11"
}

check_disk() {
  local needed_kb free_kb
  needed_kb=$((${MIN_FREE_GB:-6} * 1000 * 1000))
  free_kb=$(df -Pk . | awk 'NR == 2 { print $4 }')
  [ "$free_kb" -ge "$needed_kb" ] ||
    fail "$PWD: ${MIN_FREE_GB:-6} GB needed, $((free_kb / 1000000)) GB free; make room, or lower MIN_FREE_GB if you know that less will do"
}

make_venv() {
  if [ -x $VENV/bin/python ] && $VENV/bin/python -m pip --version >/dev/null 2>&1 && version_fits $VENV/bin/python; then return; fi
  local python
  python=$(find_python)
  say "making $VENV with $($python --version 2>&1)"
  rm -rf $VENV
  mkdir $VENV
  "$python" -m venv $VENV >"$LOG" 2>&1 || fail "$python -m venv failed: $(tail -n 1 "$LOG"); on Debian and Ubuntu: apt-get install python3-venv"
}

# PYTHON names another interpreter than the one in .venv: start over with it.
heed_python() {
  if [ -z "${PYTHON:-}" ] || [ ! -x $VENV/bin/python ]; then return; fi
  local show='import sys; print("%d.%d.%d" % sys.version_info[:3])'
  version_fits "$(find_python)"
  [ "$("$PYTHON" -c "$show")" = "$($VENV/bin/python -c "$show")" ] || rm -rf $VENV
}

# The index settings that pip would use, in uv's words: uv does not read pip's configuration.
uv_sources() {
  $VENV/bin/python - <<'PY'
import ast
import subprocess
import sys

listing = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True).stdout
options = {"index-url": "--default-index", "extra-index-url": "--index", "find-links": "--find-links"}
found = {}
for line in listing.splitlines():  # the environment's own lines come first and win, as they do in pip
    key, _, value = line.partition("=")
    found.setdefault(key.rpartition(".")[2], ast.literal_eval(value))
for name, option in options.items():
    for value in found.get(name, "").split():
        print(f"{option}={value}")
PY
}

fetch_uv() {
  [ "${INSTALLER:-uv}" = uv ] || return 1
  $VENV/bin/python -m pip install --quiet --constraint constraints.txt uv >>"$LOG" 2>&1
}

check_index() {
  $VENV/bin/python -m pip download --quiet --no-deps --dest $VENV/.probe --constraint constraints.txt six >>"$LOG" 2>&1 ||
    fail "pip cannot reach a package index: $(grep -iE -m 1 'error|could not' "$LOG"); check the network, a proxy (HTTPS_PROXY) or PIP_INDEX_URL"
  rm -rf $VENV/.probe
}

install() {
  local extras=$1 other=$2 target sources=()
  target=".[$extras]"
  # Both builds of onnxruntime install into one folder; removing one breaks the other, so clear both first.
  if $VENV/bin/python -m pip show --quiet "$other" >/dev/null 2>&1; then
    $VENV/bin/python -m pip uninstall --yes --quiet onnxruntime onnxruntime-gpu 2>>"$LOG"
  fi
  if fetch_uv; then
    mapfile -t sources < <(uv_sources)
    [ -z "${TORCH_INDEX_URL:-}" ] || sources+=("--index=$TORCH_INDEX_URL")
    say "installing $target with uv: half a minute to a few minutes, 2.4 GB (7 GB with CUDA)"
    # unsafe-best-match looks for a version in every index, as pip does; a private mirror of a part would hide the rest.
    SSL_CERT_FILE=${SSL_CERT_FILE:-${PIP_CERT:-}} $VENV/bin/uv pip install --quiet --python $VENV/bin/python --constraint constraints.txt \
      --index-strategy unsafe-best-match "${sources[@]}" --editable "$target" && return
    say "uv could not; trying pip"
  fi
  check_index
  [ -z "${TORCH_INDEX_URL:-}" ] || sources+=("--extra-index-url=$TORCH_INDEX_URL")
  say "installing $target with pip: several minutes, 2.4 GB (7 GB with CUDA)"
  $VENV/bin/python -m pip install --quiet --constraint constraints.txt "${sources[@]}" --editable "$target" ||
    fail "pip could not install $target; its last lines above say why"
}

# An environment for tests serves runs as well.
is_ready() {
  [ -f $STAMP ] || return 1
  case $(cat $STAMP) in "$1 dev" | "$1 $EXTRA") return 0 ;; *) return 1 ;; esac
}

# `make run` and `make test` started together must not install into one environment at once.
lock() {
  command -v flock >/dev/null || return 0
  exec 9<infra/setup.sh
  flock --nonblock 9 && return
  say "another set-up is at work here; waiting for it"
  flock 9
}

main() {
  local accelerator stamp extras other
  accelerator=$(accelerator)
  stamp=$(fingerprint "$accelerator")
  heed_python
  if is_ready "$stamp"; then return; fi
  lock
  if is_ready "$stamp"; then return; fi
  # An environment that has the tests' packages keeps them when it is brought up to date.
  extras=$accelerator
  if [ "$EXTRA" = dev ] || { [ -f $STAMP ] && grep -q ' dev$' $STAMP; }; then extras+=",dev"; fi
  other=onnxruntime-gpu
  [ "$accelerator" = cpu ] || other=onnxruntime
  trap 'say "stopped; the next call starts over" >&2; exit 130' INT TERM
  [ -f $STAMP ] || [ -x $VENV/bin/dvc ] || check_disk
  rm -f $STAMP
  if [ -f $UNFINISHED ]; then
    say "the set-up before this one was stopped; starting over"
    rm -rf $VENV
  fi
  make_venv
  : >$UNFINISHED
  : >"$LOG"
  install "$extras" "$other"
  rm -f "$LOG" $UNFINISHED
  case $extras in *,dev) echo "$stamp dev" >$STAMP ;; *) echo "$stamp run" >$STAMP ;; esac
  say "done; $VENV is ready ($accelerator)"
}

main

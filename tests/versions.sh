#!/usr/bin/env bash
# With which versions of Python, torch and timm does this library work?
#
#   tests/versions.sh [NUMBER ...]   # all rows below, or those of these numbers, one virtual environment after another
#
# Needs a C++ compiler, and 6 GB of disk: PyPI's torch brings CUDA's libraries, though all here runs on the CPU. Settings:
#   SCRIPTS=FOLDER   timm's train.py as train_v1.0.27.py and so on, and timm's main branch as train_HEAD.py
#   KEEP=1           leave the environments, and use those that are there
#   OUT=FOLDER       where environments, logs and the table (versions.md) go
set -u
cd "$(dirname "$0")/.."
OUT=$(realpath -m "${OUT:-build/versions}")
SCRIPTS=${SCRIPTS:+$(realpath "$SCRIPTS")}
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} CUDA_VISIBLE_DEVICES='' TORCHINDUCTOR_CACHE_DIR  # nothing compiled before
NEWEST_TIMM=1.0.31
# Python, torch, torchvision, timm; a Python that is not installed is told of
ROWS=(
    '3.10 2.5.0 0.20.0 1.0.27'
    "3.11 2.5.0 0.20.0 $NEWEST_TIMM"
    "3.11 2.11.0 0.26.0 $NEWEST_TIMM"
    '3.11 2.14.1 0.29.1 1.0.27'
    "3.13 2.14.1 0.29.1 $NEWEST_TIMM"
    "3.11 2.6.0 0.21.0 $NEWEST_TIMM"
    "3.12 2.8.0 0.23.0 $NEWEST_TIMM"
)

finish() {  # PART RESULT: one line, and a cell of the table
    echo "Python $python, torch $torch, torchvision $torchvision, timm $timm: $1: $2"
    cells+=" $2 |"
}

skip() {  # RESULT: for all parts
    for part in library compiled launcher; do finish "$part" "$1"; done
}

run() {  # PART ARGUMENTS...: pytest in the row's environment
    local part=$1 log="$env.$1.log" result=failed
    shift
    timeout 1800 "$env/bin/python" -m pytest -q "$@" >"$log" 2>&1 && result=passed
    # its last line, such as "3 failed, 1580 passed, 5 skipped, 115 deselected in 103.13s"
    finish "$part" "$result ($(tail -n 1 "$log" | sed -E 's/,? [0-9]+ deselected//; s/ in [0-9.]+s.*//; s/=+ ?//g'))"
}

parts() {
    if ! command -v "python$python" >/dev/null; then skip "not run: no python$python"; return; fi
    if ! { [ -x "$env/bin/pytest" ] || { "python$python" -m venv "$env" && "$env/bin/pip" install --quiet \
            --editable '.[bench,test]' "torch==$torch" "torchvision==$torchvision" "timm==$timm"; }; } \
            >"$env.install.log" 2>&1; then
        skip "not run: not installed, see $(basename "$env").install.log"; return
    fi
    # what tests the benchmarks says nothing of the library; the launcher has a part of its own
    mapfile -t files < <(grep -LE '^from benchmarks|^import benchmarks' tests/test_*.py | grep -v test_train_patch)
    run library "${files[@]}"
    TORCHINDUCTOR_CACHE_DIR=$(mktemp -d)
    run compiled -m 'not gpu' 'tests/test_gpu.py::test_compiled_by_inductor_it_learns_the_same[cpu-default-{}]' \
        tests/test_unmixing.py::test_a_mask_is_averaged_by_cells_of_any_size_while_compiled
    local script="$SCRIPTS/train_v$timm.py"
    [ "$timm" != "$NEWEST_TIMM" ] || [ -f "$script" ] || script="$SCRIPTS/train_HEAD.py"
    if [ -n "$SCRIPTS" ] && [ -f "$script" ]; then
        run launcher -m 'not gpu' --train-script "$script" tests/test_train_patch.py \
            'tests/test_long_runs.py::test_a_run_trains_and_resumes[--torchcompile inductor]'
    else
        finish launcher "not run: no train.py of timm $timm in SCRIPTS"
    fi
    rm -rf "$TORCHINDUCTOR_CACHE_DIR"
}

mkdir -p "$OUT"
printf '%s\n' '| Python | torch | torchvision | timm | library | compiled step | launcher |' '|---|---|---|---|---|---|---|' \
    >"$OUT/versions.md"
for number in "${@:-$(seq ${#ROWS[@]})}"; do
    for each in $number; do
        read -r python torch torchvision timm <<<"${ROWS[each - 1]}"
        env="$OUT/python$python-torch$torch-timm$timm"
        cells=''
        parts
        echo "| $python | $torch | $torchvision | $timm |$cells" >>"$OUT/versions.md"
        [ -n "${KEEP:-}" ] || rm -rf "$env"
    done
done

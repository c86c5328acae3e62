#!/usr/bin/env bash
# What `make dist` made, as a stranger meets it: the wheel in an environment of its own, outside the checkout, audits the embedded set;
# the tests of the source distribution pass with it. Called by `make release-check` with the Python to do it with.
set -euo pipefail
python=$1
dist=$(cd "$(dirname "$0")/.." && pwd)/dist
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"
"$python" -m venv venv
venv/bin/pip install --quiet --upgrade pip
start=$SECONDS
venv/bin/pip install --quiet "$dist"/*.whl
echo "installed in $((SECONDS - start)) s"
start=$SECONDS
venv/bin/datablame audit digits --noise pair --amount 0.2
test -s runs/*/report.html
echo "the first report after $((SECONDS - start)) s"
venv/bin/python - <<'PROGRAM'
import importlib.metadata, importlib.resources, pathlib, sys
import datablame
assert "site-packages" in datablame.__file__, datablame.__file__
assert importlib.resources.files("datablame").joinpath("py.typed").is_file()
print("datablame", importlib.metadata.version("datablame"), "on Python", sys.version.partition(" ")[0])
PROGRAM
mkdir source
tar -xzf "$dist"/*.tar.gz -C source --strip-components 1
venv/bin/pip install --quiet "$(ls "$dist"/*.whl)[test,hub]"
cd source
OMP_NUM_THREADS=1 ../venv/bin/python -m pytest --numprocesses logical --maxprocesses 8 --dist worksteal -m 'not slow'

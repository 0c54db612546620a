#!/bin/sh
# Makes .venv fit for use: finds a Python and hands over to environment.py. Silent when all is well.
# PYTHON=… names the interpreter to use instead of looking for one.
set -eu
unset PYTHONHOME PYTHONPATH
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
venv=$here/../../.venv

if "$venv/bin/python" -E -s "$here/environment.py" --check 2>/dev/null; then
  exit 0
fi

recent='import sys; sys.exit(sys.version_info < (3, 11))'
fallback=
for name in ${PYTHON:-python3.13 python3.12 python3.11 python3}; do
  # A name on the path may be a version manager's shim for a Python that is not there: run it.
  "$name" -c "$recent" >/dev/null 2>&1 || continue
  if "$name" -c 'import ensurepip, venv' >/dev/null 2>&1; then
    exec "$name" -E -s "$here/environment.py"
  fi
  fallback=${fallback:-$name}
done
if [ -n "$fallback" ]; then
  exec "$fallback" -E -s "$here/environment.py"
fi
if [ -n "${PYTHON:-}" ]; then
  echo "environment: PYTHON=$PYTHON is not a Python ≥ 3.11; name one that is, or leave PYTHON out" >&2
else
  echo "environment: no Python ≥ 3.11 found (looked for python3.13, python3.12, python3.11," \
    "python3); install one (Debian 12: apt-get install python3 python3-venv) or name it: make PYTHON=…" >&2
fi
exit 1

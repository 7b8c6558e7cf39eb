#!/usr/bin/env bash
# Sets up what the Makefile's targets need. Safe to repeat; installs only what is missing.
#
#   tools/bootstrap.sh venv base|gui|test|docs     the virtual environment $VENV, with this package and what that needs
#   tools/bootstrap.sh system python|qt|xvfb...    what the system must have: a Python that can make environments, the
#                                                  libraries of Qt and OpenGL, a screen for machines without one
#
# PYTHON  the interpreter to make a new environment with (default: python3.11, else the first newer one found)
# VENV    where the environment goes (default .venv)
set -eu
cd "$(dirname "$0")/.."

VENV=${VENV:-.venv}
OLDEST=3.11

say() { printf 'set-up: %s\n' "$*"; }
fail() {
    printf 'set-up failed: %s\n' "$*" >&2
    exit 1
}

# --- Debian packages -------------------------------------------------------------------------------------------

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif [ -t 0 ]; then
        sudo "$@" # may ask for the password
    else
        sudo -n "$@"
    fi
}

may_be_root() {
    [ "$(id -u)" -eq 0 ] || { command -v sudo >/dev/null && as_root true 2>/dev/null; }
}

# install_packages WHY PACKAGE...
install_packages() {
    why=$1
    shift
    command -v apt-get >/dev/null ||
        fail "$why. This is not Debian or Ubuntu: install what these packages hold there, then try again: $*"
    may_be_root ||
        fail "$why, and you are neither root nor may you use sudo. Ask your administrator for: apt-get install $*"
    say "$why: installing $*"
    # A broken third-party source fails the update although Debian's own lists are fresh: let the install decide.
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 update ||
        say "apt-get update had trouble; trying with the package lists as they are"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 \
        install -y --no-install-recommends "$@" >/dev/null ||
        fail "apt-get could not install: $* (its own words are above)"
}

# --- Python -----------------------------------------------------------------------------------------------------

new_enough() {
    "$1" -c "import sys; sys.exit(sys.version_info < (${OLDEST/./, }))" 2>/dev/null
}

find_python() {
    if [ -n "${PYTHON:-}" ]; then
        new_enough "$PYTHON" || fail "PYTHON=$PYTHON is not a Python $OLDEST or newer"
        printf '%s\n' "$PYTHON"
        return
    fi
    for candidate in python3.11 python3 python3.12 python3.13; do # 3.11 first: constraints.txt was made with it
        if new_enough "$candidate"; then
            printf '%s\n' "$candidate"
            return
        fi
    done
    fail "Python $OLDEST or newer is needed ($(python3 --version 2>/dev/null || echo 'no python3') found)." \
        "Install one (Debian 12: apt-get install python3), or name it: make PYTHON=/path/to/python3.11 ..."
}

# An environment that was moved, or whose interpreter is gone, does not count.
environment_works() {
    "$VENV/bin/python" -c "import pip" 2>/dev/null
}

missing_python() {
    ! environment_works || return 0
    python=$(find_python)
    "$python" -c "import ensurepip, venv" 2>/dev/null ||
        "$python" -c "import sys; print('python%d.%d-venv' % sys.version_info[:2], end=' ')"
}

# --- System libraries ------------------------------------------------------------------------------------------

# What the Qt 6 wheels leave to the system, and is not there: lines "library package" of a file that the package reads too.
missing_qt() {
    known=$(PATH=$PATH:/usr/sbin:/sbin ldconfig -p 2>/dev/null) || known=""
    while read -r library package; do
        case $library in "" | "#"*) continue ;; esac
        case $known in *"$library "*) ;; *) printf '%s ' "$package" ;; esac
    done <napari_distill2label/qt_libraries.txt
}

# A screen in memory, and an OpenGL that draws on it without a graphics card.
missing_xvfb() {
    command -v xvfb-run >/dev/null || printf 'xvfb '
    command -v xauth >/dev/null || printf 'xauth '
    for driver in /usr/lib/dri/swrast_dri.so /usr/lib64/dri/swrast_dri.so /usr/lib/*/dri/swrast_dri.so; do
        [ ! -e "$driver" ] || return 0
    done
    printf 'libgl1-mesa-dri '
}

system() {
    [ "$(uname -s)" = Linux ] || return 0 # elsewhere Qt and the screen come with the system
    packages=""
    for part in "$@"; do
        case $part in
        python) packages="$packages$(missing_python)" ;;
        qt) packages="$packages$(missing_qt)" ;;
        xvfb) packages="$packages$(missing_xvfb)" ;;
        *) fail "unknown part '$part': python, qt or xvfb" ;;
        esac
    done
    # shellcheck disable=SC2086  # a list of words
    [ -z "$packages" ] || install_packages "system packages are missing" $packages
}

# --- Virtual environment ---------------------------------------------------------------------------------------

# pip_install WHAT ARGUMENT...
pip_install() {
    what=$1
    shift
    "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --no-input --constraint constraints.txt "$@" ||
        fail "pip could not install $what (its own words are above)"
}

venv() {
    purpose=$1
    case $purpose in # the extras of setup.cfg, and the dependency groups of pyproject.toml
    base) extras="" groups="" stamps="base" ;;
    gui) extras="[gui,slides,encoders,parquet]" groups="qt" stamps="base gui" ;;
    test) extras="[gui,slides,encoders,parquet,cluster]" groups="dev" stamps="base gui test" ;;
    docs) extras="" groups="docs" stamps="base docs" ;;
    *) fail "unknown purpose '$purpose': base, gui, test or docs" ;;
    esac

    if ! environment_works; then
        [ -e "$VENV/pyvenv.cfg" ] || [ -z "$(ls -A "$VENV" 2>/dev/null)" ] ||
            fail "VENV=$VENV holds something that is no virtual environment: name another folder"
        python=$(find_python)
        system python
        say "creating $VENV with $("$python" --version)"
        "$python" -m venv --clear "$VENV" || fail "$python could not create the virtual environment $VENV"
    fi

    # Debian 12's pip (23) knows no dependency groups, those from 25.1 on do.
    [ -z "$groups" ] || "$VENV/bin/python" -m pip install --help | grep -q -e --group || pip_install "a newer pip" --upgrade pip

    say "installing .$extras and its packages into $VENV (the first time takes a few minutes)"
    # shellcheck disable=SC2086  # a word per group
    pip_install ".$extras" --editable ".$extras" ${groups:+--group $groups}

    for stamp in $stamps; do touch "$VENV/.installed-$stamp"; done # which the Makefile looks at
}

case ${1:-} in
venv) venv "${2:-base}" ;;
system)
    shift
    system "$@"
    ;;
*) fail "say what to set up: 'venv base|gui|test|docs' or 'system python|qt|xvfb'" ;;
esac

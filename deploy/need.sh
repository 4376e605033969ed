#!/usr/bin/env bash
# Makes sure that programs and files are there that neither cargo nor go can bring.
#
#   deploy/need.sh THING=PACKAGE...
#
# THING is a program on the PATH, or the absolute path of a file (a * matches). What is missing is installed from
# PACKAGE where that can be done without asking: as root, on a system with apt-get. Elsewhere one line
# names what to install, and the script fails.
set -euo pipefail

missing=()
for pair in "$@"; do
    thing=${pair%%=*} package=${pair#*=}
    case $thing in
        /*) compgen -G "$thing" >/dev/null || missing+=("$package") ;;
        *) command -v "$thing" >/dev/null || missing+=("$package") ;;
    esac
done
[ ${#missing[@]} -eq 0 ] && exit 0

if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
    echo "missing: ${missing[*]}. Install these (Debian's package names) and try again." >&2
    exit 1
fi

echo "installing ${missing[*]}" >&2
log=$(mktemp)
trap 'rm -f "$log"' EXIT
export DEBIAN_FRONTEND=noninteractive
# The package lists of a fresh machine are empty or old: try with what is there, then with new ones.
install=(apt-get install -y --no-install-recommends "${missing[@]}")
if ! "${install[@]}" </dev/null >"$log" 2>&1; then
    if ! { apt-get update && "${install[@]}"; } </dev/null >"$log" 2>&1; then
        cat "$log" >&2
        echo "could not install ${missing[*]}" >&2
        exit 1
    fi
fi

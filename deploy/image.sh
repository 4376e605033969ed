#!/usr/bin/env bash
# Builds the operator's image into an archive that docker, podman, kind and containerd can load:
#
#   <cargo's target directory>/image/town-operator.tar
#
#   PROFILE=... the profile of the build: release (default), or trial, a quick build for tests and the demo, with its
#               archive in <cargo's target directory>/image/trial
#   IMAGE=...   the name in the archive (default: localhost/town-operator:dev)
#   ENGINE=...  docker, podman or buildah (default: the first that works; on Debian, as root, the script installs
#               buildah if none works)
#
# The last line of the output ends with ": " and the archive's path; the node tests read it.
# The script builds no new archive if the program, the Dockerfile and the name have not changed.
set -euo pipefail
cd "$(dirname "$0")/.."

IMAGE=${IMAGE:-localhost/town-operator:dev}
PROFILE=${PROFILE:-release}

fail() {
    echo "image: $*" >&2
    exit 1
}

[ "$(uname -s)" = Linux ] || fail "the image contains a Linux program, and only Linux can build it"
command -v cargo >/dev/null || fail "cargo is missing: install Rust (https://rustup.rs) and try again"

triple=$(rustc -vV | sed -n 's/^host: //p')
metadata=$(cargo metadata --no-deps --format-version 1)
target=$(sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p' <<<"$metadata")
version=$(cargo pkgid -p town-operator | sed 's/.*[#@]//')
case $PROFILE in
    release) out=$target/image ;;
    trial) out=$target/image/trial ;;
    *) fail "PROFILE is release or trial, not $PROFILE" ;;
esac
archive=$out/town-operator.tar

# The program is static, because the image has no libc. The explicit --target keeps the flag away from build scripts and
# from the cache of other builds.
RUSTFLAGS="${RUSTFLAGS:-} -C target-feature=+crt-static" \
    cargo build --profile "$PROFILE" --locked --bin town-operator --target "$triple"
program=$target/$triple/$PROFILE/town-operator

mkdir -p "$out"
stamp=$(sha256sum "$program" deploy/Dockerfile | cut -d' ' -f1 | tr '\n' ' ')$IMAGE
if [ -f "$archive" ] && [ "$(cat "$out/stamp" 2>/dev/null)" = "$stamp" ]; then
    echo "image: $IMAGE is up to date: $archive"
    exit 0
fi
rm -f "$out/stamp" "$archive"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/context"
cp "$program" "$work/context/town-operator"
build=(build -f deploy/Dockerfile --build-arg "VERSION=$version" -t "$IMAGE" "$work/context")

with_docker() {
    docker version --format '{{.Server.Version}}' >/dev/null 2>&1 || return 2
    docker "${build[@]}" && docker save -o "$work/image.tar" "$IMAGE"
}

with_podman() {
    command -v podman >/dev/null || return 2
    podman "${build[@]}" && podman save --format docker-archive -o "$work/image.tar" "$IMAGE"
}

# A temporary store keeps the build separate from other images. vfs and chroot need no kernel features, so the build also
# works inside a container.
with_buildah() {
    command -v buildah >/dev/null || return 2
    local buildah=(buildah --storage-driver vfs --root "$work/store" --runroot "$work/run")
    "${buildah[@]}" "${build[0]}" --isolation chroot "${build[@]:1}" \
        && "${buildah[@]}" push --quiet "$IMAGE" "docker-archive:$work/image.tar:$IMAGE"
}

# The script installs packages only as root on a system with apt-get, where this needs no confirmation.
install_buildah() {
    [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null || return 1
    echo "image: no container engine works here; installing buildah" >&2
    local install=(apt-get install -y --no-install-recommends -o DPkg::Lock::Timeout=300 buildah)
    export DEBIAN_FRONTEND=noninteractive
    # A fresh machine has no package lists, or old ones, so a failed install is repeated after an update.
    { "${install[@]}" || { apt-get update && "${install[@]}"; }; } </dev/null >"$work/log" 2>&1 && return 0
    sed 's/^/apt-get: /' "$work/log" >&2
    return 1
}

# Tries one engine. Exit code: 0 after a build, 2 if the engine is missing; any other code is a failed build, and the
# engine's log is printed.
attempt() {
    local code=0
    rm -f "$work/image.tar"
    "with_$1" >"$work/log" 2>&1 || code=$?
    if [ $code -ne 0 ] && [ $code -ne 2 ]; then
        sed "s/^/$1: /" "$work/log" >&2
    fi
    return $code
}

used=
case ${ENGINE:-} in
    "")
        for engine in docker podman buildah; do
            if attempt $engine; then
                used=$engine
                break
            fi
        done
        if [ -z "$used" ] && ! command -v buildah >/dev/null; then
            install_buildah || fail "no container engine works here: start docker, or install podman or buildah, and try again"
            attempt buildah && used=buildah
        fi
        ;;
    docker | podman | buildah) attempt "$ENGINE" && used=$ENGINE ;;
    *) fail "ENGINE is docker, podman or buildah, not $ENGINE" ;;
esac
[ -n "$used" ] || fail "no container engine (${ENGINE:-docker, podman, buildah}) could build the image; see the log above"

mv "$work/image.tar" "$archive"
echo "$stamp" >"$out/stamp"
echo "image: built $IMAGE with $used, $(du -h "$archive" | cut -f1): $archive"

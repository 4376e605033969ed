#!/usr/bin/env bash
# Builds the operator's image into an archive that docker, podman, kind and containerd can load:
#
#   <cargo's target directory>/image/town-operator.tar
#
#   IMAGE=...   the name in the archive (default: localhost/town-operator:dev)
#   ENGINE=...  docker, podman or buildah (default: the first that works; on Debian, as root, buildah is
#               installed when there is none)
#
# The last line of its output ends in the archive's path, behind ": "; the node tests read it.
# Nothing is done when the program, the Dockerfile and the name are those of the archive that is there.
set -euo pipefail
cd "$(dirname "$0")/.."

IMAGE=${IMAGE:-localhost/town-operator:dev}

fail() {
    echo "image: $*" >&2
    exit 1
}

[ "$(uname -s)" = Linux ] || fail "the program in the image is a Linux program and is built on Linux only"
command -v cargo >/dev/null || fail "cargo is missing: install Rust (https://rustup.rs) and try again"

triple=$(rustc -vV | sed -n 's/^host: //p')
metadata=$(cargo metadata --no-deps --format-version 1)
target=$(sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p' <<<"$metadata")
version=$(cargo pkgid -p town-operator | sed 's/.*[#@]//')
out=$target/image
archive=$out/town-operator.tar

# Static, so that it runs where there is no libc. Its own --target keeps the flag away from build scripts and
# from the other builds' cache.
RUSTFLAGS="${RUSTFLAGS:-} -C target-feature=+crt-static" \
    cargo build --release --locked --bin town-operator --target "$triple"
program=$target/$triple/release/town-operator

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

# A store of its own, thrown away after: nothing else may see or fill it. vfs and chroot need no
# kernel features, so that this works inside a container as well.
with_buildah() {
    command -v buildah >/dev/null || return 2
    local buildah=(buildah --storage-driver vfs --root "$work/store" --runroot "$work/run")
    "${buildah[@]}" "${build[0]}" --isolation chroot "${build[@]:1}" \
        && "${buildah[@]}" push --quiet "$IMAGE" "docker-archive:$work/image.tar:$IMAGE"
}

# Without a question only where that is how things are done: as root, on Debian or its like.
install_buildah() {
    [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null || return 1
    echo "image: no container engine works here; installing buildah" >&2
    local install=(apt-get install -y --no-install-recommends -o DPkg::Lock::Timeout=300 buildah)
    export DEBIAN_FRONTEND=noninteractive
    # A fresh machine has no package lists, or old ones: then they are fetched.
    { "${install[@]}" || { apt-get update && "${install[@]}"; }; } </dev/null >"$work/log" 2>&1 && return 0
    sed 's/^/apt-get: /' "$work/log" >&2
    return 1
}

# Tries one engine: 0 built, 2 not there, else it is there and did not do it, and said why.
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
[ -n "$used" ] || fail "none of the container engines asked (${ENGINE:-docker, podman, buildah}) built the image"

mv "$work/image.tar" "$archive"
echo "$stamp" >"$out/stamp"
echo "image: built $IMAGE with $used, $(du -h "$archive" | cut -f1): $archive"

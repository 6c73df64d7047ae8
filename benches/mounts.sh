#!/bin/sh
# Prints the CPU time that aircheck takes with 1 to 16 mounts of stereo WAV in blocks of 10 ms, without listeners, over so many seconds.
# usage: benches/mounts.sh target/release/aircheck [SECONDS]
set -eu
directory=$(mktemp -d)
seconds=${2:-10}
ffmpeg -loglevel error -f lavfi -i "sine=440:r=48000:d=10" -ac 2 "$directory/sine.wav"
for mounts in 1 2 4 8 16; do
    for number in $(seq "$mounts"); do
        printf '[[mount]]\nname = "m%d"\nsource = "wav:%s/sine.wav"\nloop = true\n' "$number" "$directory"
    done > "$directory/aircheck.toml"
    "$1" --config "$directory/aircheck.toml" --listen 127.0.0.1:0 > "$directory/out" 2> "$directory/log" &
    process=$!
    until grep -q listening "$directory/out"; do sleep 0.1; done
    ticks() { awk '{ print $14 + $15 }' "/proc/$process/stat"; }
    sleep 1
    before=$(ticks)
    sleep "$seconds"
    awk "BEGIN { printf \"%d mounts: %.1f %% of a core\\n\", $mounts, ($(ticks) - $before) * 100 / $(getconf CLK_TCK) / $seconds }"
    kill "$process"
    wait "$process" || true
done
rm -r "$directory"

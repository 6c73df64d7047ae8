#!/bin/sh
# Prints what each server of a small tree takes: an origin of 48 kHz stereo in blocks of 10 ms, nats-server, and up to eight edges, of which two
# get listeners of Opus, 500 each. Percents are of one core, over so many seconds.
# usage: benches/hop.sh target/release/aircheck target/release/aircheckctl [SECONDS]
set -eu
aircheck=$1 ctl=$2 seconds=${3:-20}
. "$(dirname "$0")/hop_processes.sh"

percent() { # LABEL PROCESS...: each one's time while nothing else is done, after a second
    label=$1
    shift
    sleep 1
    before=$(for process in "$@"; do ticks "$process"; done)
    sleep "$seconds"
    after=$(for process in "$@"; do ticks "$process"; done)
    printf '%s:' "$label"
    printf '%s\n%s\n' "$before" "$after" | awk -v n=$# -v s="$seconds" -v hz="$(getconf CLK_TCK)" \
        'NR <= n { before[NR] = $1 } NR > n { printf " %.2f", ($1 - before[NR - n]) * 100 / hz / s } END { print " %" }'
}
hop() { # URL: the stage, and what was lost
    curl -s "$1/api/v1/status" | grep -o '"hop":{"max[^}]*}\|"hop":{"p50[^}]*}\|"lost_hop":[0-9]*' | tr '\n' ' '
}

ffmpeg -loglevel error -f lavfi -i "sine=440:r=48000:d=10" -ac 2 "$directory/sine.wav"
start nats nats-server -a 127.0.0.1 -p -1 --ports_file_dir "$directory"
nats=$process
until grep -q nats "$directory"/*.ports 2> /dev/null; do sleep 0.1; done
subject=$(grep -o 'nats://[^"]*' "$directory"/*.ports | head -1)/hop.sh

start alone "$aircheck" --source "wav:$directory/sine.wav" --loop --listen 127.0.0.1:0
alone=$process
url alone > /dev/null
start origin "$aircheck" --source "wav:$directory/sine.wav" --loop --listen 127.0.0.1:0 --publish "$subject"
origin=$process
url origin > /dev/null
percent "a server alone, the origin, NATS; no edge" "$alone" "$origin" "$nats"
edges=
for count in 1 2 4 8; do
    while [ "$(echo "$edges" | wc -w)" -lt "$count" ]; do
        number=$(echo "$edges" | wc -w)
        start "edge$number" "$aircheck" --source "$subject" --listen 127.0.0.1:0
        edges="$edges $process"
        url "edge$number" > /dev/null
    done
    # shellcheck disable=SC2086
    percent "the origin, NATS, edges; $count" "$origin" "$nats" $edges
done
for listeners in 250 500; do
    loads=
    for number in 0 1; do
        start "load$number" "$ctl" load "$(url "edge$number")/stream.opus" --listeners "$listeners" --for "$((seconds + 15))s"
        loads="$loads $process"
    done
    sleep 8
    # shellcheck disable=SC2086
    percent "the origin, NATS, edges; $listeners listeners at two of them" "$origin" "$nats" $edges
    for number in 0 1; do
        echo "edge $number: $(hop "$(url "edge$number")")"
    done
    # shellcheck disable=SC2086
    wait $loads
    for number in 0 1; do tail -3 "$directory/load$number.out"; done
done

#!/bin/sh
# Prints what each form of --publish-format costs on the way from an origin to an edge: bytes on the origin's connection, processor time in per cent
# of one core, and how late an edge has a block. The sound is pink noise, 48 kHz stereo of 16 bits, in blocks of 10 ms, each form for so many seconds.
# usage: benches/hop_opus.sh target/release/aircheck [SECONDS]
set -eu
aircheck=$1 seconds=${2:-20}
. "$(dirname "$0")/hop_processes.sh"

sent() { # PROCESS: bytes that its connections to NATS have had acknowledged
    ss --tcp --numeric --info --processes state established dport = ":$port" | grep -A1 "pid=$1," \
        | grep -o 'bytes_acked:[0-9]*' | awk -F: '{ sum += $2 } END { print sum + 0 }'
}
stage() { # URL STAGE: p50 and p99 in ms
    curl -s "$1/api/v1/status" | jq -r ".latency_seconds.$2 | \"\(.p50 * 1e5 | round / 100) \(.p99 * 1e5 | round / 100)\""
}

ffmpeg -loglevel error -f lavfi -i "anoisesrc=c=pink:r=48000:d=20:a=0.5:seed=1" -f lavfi -i "anoisesrc=c=pink:r=48000:d=20:a=0.5:seed=2" \
    -filter_complex amerge=inputs=2 -ac 2 -c:a pcm_s16le "$directory/noise.wav"
start nats nats-server -a 127.0.0.1 -p -1 --ports_file_dir "$directory"
nats=$process
until grep -q nats "$directory"/*.ports 2> /dev/null; do sleep 0.1; done
port=$(grep -o 'nats://[^"]*' "$directory"/*.ports | head -1 | sed 's/.*://')

echo "form; bytes/s; origin %, nats-server %, edge %; ring at the edge p50 p99 ms; hop p50 p99 ms; lost on the hop"
for form in exact opus:96k opus:128k opus:160k; do
    subject=nats://127.0.0.1:$port/hop.${form#*:}
    start "origin-$form" "$aircheck" --source "wav:$directory/noise.wav" --loop --listen 127.0.0.1:0 --publish "$subject" --publish-format "$form"
    origin=$process
    url "origin-$form" > /dev/null
    start "edge-$form" "$aircheck" --source "$subject" --listen 127.0.0.1:0
    edge=$process
    at=$(url "edge-$form")
    sleep 3
    before="$(sent "$origin") $(ticks "$origin") $(ticks "$nats") $(ticks "$edge")"
    sleep "$seconds"
    after="$(sent "$origin") $(ticks "$origin") $(ticks "$nats") $(ticks "$edge")"
    echo "$before $after" | awk -v form="$form" -v s="$seconds" -v hz="$(getconf CLK_TCK)" \
        '{ printf "%s; %.0f; %.2f, %.2f, %.2f; ", form, ($5 - $1) / s, ($6 - $2) * 100 / hz / s, ($7 - $3) * 100 / hz / s, ($8 - $4) * 100 / hz / s }'
    echo "$(stage "$at" ring); $(stage "$at" hop); $(curl -s "$at/api/v1/status" | jq .hop.lost_blocks)"
    kill "$origin" "$edge"
    wait "$origin" "$edge" 2> /dev/null || true
done

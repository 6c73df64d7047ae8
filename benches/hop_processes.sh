# The processes of the two benches of the hop: started by name, ended with the script. To be read with `.`.
directory=$(mktemp -d)
started=
trap 'kill $started 2> /dev/null; wait; rm -r "$directory"' EXIT

start() { # NAME COMMAND...: its process is in $process
    name=$1
    shift
    "$@" > "$directory/$name.out" 2> "$directory/$name.log" &
    process=$!
    started="$process $started"
}
url() { # NAME: of the process that was started last
    until grep -q listening "$directory/$1.out"; do
        kill -0 "$process" 2> /dev/null || { cat "$directory/$1.log" >&2; exit 1; }
        sleep 0.1
    done
    sed -n 's,^listening on \(.*\)/$,\1,p' "$directory/$1.out"
}
ticks() { awk '{ print $14 + $15 }' "/proc/$1/stat"; }

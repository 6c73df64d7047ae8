#!/usr/bin/env bash
# Makes tokens for compose.yaml in deploy/private, once: for the page, which asks for the one in page.token, and for Prometheus. The files
# are mounted into containers whose users differ, so they are readable, and their directory is not. `aircheck token new` makes further ones.
set -euo pipefail

private=$(dirname "$0")/private
if [[ -e $private/aircheck.toml ]]; then
    echo "$private has tokens already (remove it to make new ones)" >&2
    exit 1
fi
mkdir -p "$private"
chmod 700 "$private"

# Makes a token with a name and scopes.
token() {
    local name=$1 scopes=$2 token
    token=ac_$(head --bytes=32 /dev/urandom | base64 --wrap=0 | tr '+/' '-_' | tr --delete =)
    printf '%s\n' "$token" >"$private/$name.token"
    printf '[[token]]\nname = "%s"\nhash = "sha256:%s"\nscopes = [%s]\n' \
        "$name" "$(printf %s "$token" | sha256sum | cut --delimiter=' ' --fields=1)" "$scopes"
}

{
    token page '"listen", "stats", "admin"'
    token prometheus '"stats"'
} >"$private/aircheck.toml"
chmod 644 "$private"/*
echo "the page at http://127.0.0.1:8700/ asks for the token in $private/page.token"

#!/usr/bin/env bash
# Installs, starts, upgrades and removes the package in a Debian system of its own, as root: `test.sh PACKAGE.deb`. Takes
# a minute or two: debootstrap makes that system from Debian's mirror, and systemd-nspawn boots it, with loopback alone.
set -euo pipefail

package=$(realpath "$1")
root=$(mktemp --directory /var/tmp/aircheck-debian.XXXXXX)
# Users of the system have to get in.
chmod 755 "$root"
boot=

finish() {
    if [[ -n $boot ]]; then
        kill -TERM "$boot" 2>/dev/null || true
        wait "$boot" 2>/dev/null || true
    fi
    rm -rf --one-file-system "$root" "$root.log"
}
trap finish EXIT

fail() {
    echo "$*" >&2
    exit 1
}

debootstrap --variant=minbase --include=systemd,systemd-sysv,dbus,ca-certificates,curl stable "$root" >/dev/null
cp "$package" "$root/aircheck.deb"
# What `dpkg-deb` makes of the same files with a higher version is the upgrade.
unpacked=$(mktemp --directory)
dpkg-deb --raw-extract "$package" "$unpacked/upgrade"
sed --in-place 's/^Version: .*/&+upgrade/' "$unpacked/upgrade/DEBIAN/control"
dpkg-deb --build --root-owner-group "$unpacked/upgrade" "$root/upgrade.deb" >/dev/null
rm -r "$unpacked"
chroot "$root" apt-get install --yes --quiet --no-install-recommends libasound2 >/dev/null 2>&1 ||
    chroot "$root" apt-get install --yes --quiet --no-install-recommends libasound2t64 >/dev/null

# Without the machine's own service manager, which need not be there. Without the capability, no program inside may lock memory.
systemd-nspawn --quiet --capability=CAP_IPC_LOCK --directory="$root" --register=no --keep-unit --private-network --boot --console=pipe >"$root.log" 2>&1 &
boot=$!
# Runs a command inside.
within() {
    nsenter --target "$(pgrep --parent "$boot")" --all "$@"
}
state=none
for _ in $(seq 60); do
    state=$(within systemctl is-system-running 2>&1) || true
    # A unit that does not fit into a container may fail.
    [[ $state == running || $state == degraded ]] && break
    sleep 1
done
[[ $state == running || $state == degraded ]] || fail "the system has not booted: $state"
property() {
    within systemctl show aircheck --property="$1" --value
}
# Runs a command as a service with the unit's limit of real-time priority.
probe() {
    within systemd-run --pipe --wait --quiet --property=DynamicUser=yes --property=LimitRTPRIO=50 "$@"
}
# A limit of the service, by its name in /proc.
limit() {
    within sed -n "s/^$1 *\\([0-9]*\\) .*/\\1/p" "/proc/$(property MainPID)/limits"
}
# What the kernel says of the service's capturing thread, such as `SCHED_RR 50`.
scheduling() {
    within sh -c 'for thread in /proc/'"$(property MainPID)"'/task/*; do
        [ "$(cat "$thread/comm")" != capture ] || chrt --pid "${thread##*/}"
    done' | sed --quiet '1,2s/.*: //p' | paste --serial --delimiters=' '
}
# Checks that the capturing thread has this policy and priority, that the status tells them, and that the memory of the capture stays in RAM.
check_realtime() {
    local said locked
    said=$(within curl --fail --silent http://127.0.0.1:8700/api/v1/status | grep --only-matching '"realtime":{[^}]*}')
    [[ $(scheduling) == "$1" && $said == *"$2"* ]] ||
        fail "the capturing thread should have $1, but has $(scheduling), and the status says $said"
    locked=$(within sed -n 's/^VmLck:[[:space:]]*\([0-9]*\) kB/\1/p' "/proc/$(property MainPID)/status")
    [[ $said == *'"lock_refusal":null'* && $said =~ '"locked_bytes":'([0-9]+) ]] &&
        ((BASH_REMATCH[1] >= 60000 && locked * 1024 >= BASH_REMATCH[1])) ||
        fail "$locked kB stay in RAM, and the status says $said"
    echo "the capturing thread has $1, with $locked kB in RAM: the status says so"
}

within dpkg --install /aircheck.deb
[[ $(property ActiveState) == inactive ]] || fail "installing must not open a microphone, but the service is $(property ActiveState)"
for file in man/man1/aircheck.1.gz man/man1/aircheck-doctor.1.gz man/man1/aircheckctl.1.gz \
    bash-completion/completions/aircheck zsh/vendor-completions/_aircheck fish/vendor_completions.d/aircheck.fish; do
    within test -s "/usr/share/$file" || fail "the package has no $file"
done
# The check that docs/operations.md has, with the user, the settings and the limits of the service.
as_the_service() {
    within systemd-run --pipe --wait --quiet --property=EnvironmentFile=-/etc/default/aircheck \
        --property=DynamicUser=yes --property=User=aircheck --property=SupplementaryGroups=audio \
        --property=StateDirectory=aircheck --property=LimitNOFILE=65536 --property=LimitNICE=-10 \
        --property=LimitRTPRIO=50 --property=LimitMEMLOCK=64M aircheck doctor
}
as_the_service || fail "the doctor finds a fault in a new system, where the demo sound can be played"
within sh -c 'printf "%s\n" AIRCHECK_SOURCE=tone:440 AIRCHECK_RECORD=/var/lib/aircheck >>/etc/default/aircheck'
within systemctl enable --now aircheck || fail "the service does not start: $(within journalctl --no-pager --lines=20 --unit aircheck)"
[[ $(property ActiveState) == active ]] || fail "the service does not start: $(property Result)"
within curl --fail --silent http://127.0.0.1:8700/readyz >/dev/null || fail "the service does not serve"
within aircheckctl listen --for 1s http://127.0.0.1:8700/ || fail "nothing to hear"
said=$(within aircheck doctor) && fail "two services cannot have one address, but the doctor finds no fault: $said"
[[ $said == *"an aircheck is on the air at 127.0.0.1:8700 already"* && $said == *"aircheck.service is on the air (enabled)"* ]] ||
    fail "the doctor does not find the service: $said"
within sh -c 'ls /var/lib/aircheck/*.wav' >/dev/null || fail "nothing is recorded"

# What the status says of real time is what the kernel says. Where the machine raises no limits, whatever a unit asks for, the status has to
# tell the reason, and the same service gets real time by capabilities, which proves that nothing else in the unit stands in its way.
permitted=$(probe sh -c 'ulimit -r')
[[ $(limit 'Max realtime priority') == "$permitted" && $permitted =~ ^(0|50)$ ]] ||
    fail "the unit asks for the priority 50, a service may have $permitted, and this one has $(limit 'Max realtime priority')"
if [[ $permitted == 50 ]]; then
    check_realtime 'SCHED_RR 50' '"priority":50,"priority_refusal":null'
else
    check_realtime 'SCHED_OTHER 0' '"priority":null,"priority_refusal":"the system permits none: '
    within mkdir --parents /run/systemd/system/aircheck.service.d
    within sh -c 'printf "%s\n" [Service] CapabilityBoundingSet=CAP_SYS_NICE AmbientCapabilities=CAP_SYS_NICE \
        >/run/systemd/system/aircheck.service.d/realtime.conf'
    within systemctl daemon-reload
    within systemctl restart aircheck
    check_realtime 'SCHED_RR 50' '"priority":50,"priority_refusal":null'
    within rm /run/systemd/system/aircheck.service.d/realtime.conf
    within systemctl daemon-reload
    within systemctl restart aircheck
fi
before=$(property MainPID)

# A service that hangs is ended by the watchdog, and started again. Its end may take WatchdogSec and TimeoutStopSec.
within sh -c "kill -STOP $before"
for _ in $(seq 60); do
    [[ $(property MainPID) == "$before" || $(property ActiveState) != active ]] || break
    sleep 1
done
[[ $(property ActiveState) == active && $(property MainPID) != "$before" ]] || fail "a service that hangs must be started again"
[[ $(property NRestarts) == 1 ]] || fail "the service was started again $(property NRestarts) times"
before=$(property MainPID)

within dpkg --install /upgrade.deb
[[ $(property ActiveState) == active && $(property MainPID) != "$before" ]] || fail "an upgrade must start the service again"
within grep --quiet AIRCHECK_SOURCE=tone:440 /etc/default/aircheck || fail "the upgrade lost the settings"

within dpkg --remove aircheck
within test ! -e /usr/bin/aircheck || fail "the program is still there"
within test -e /etc/default/aircheck || fail "removing must keep the settings"
[[ $(property ActiveState) == inactive ]] || fail "the removed service still runs"
within dpkg --purge aircheck
within test ! -e /etc/default/aircheck || fail "purging must remove the settings"
echo "installed, started, upgraded, removed, purged"

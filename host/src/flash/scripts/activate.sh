# Makes a release the active one, and the one before active again if the new
# one is not healthy. Once begun, this goes on without the host: the connection
# may be cut at any moment.
# Arguments: the lock's text, the release's hash, how many releases to keep,
# the unit, the seconds that it must run without a stop, the seconds that the
# health check may take, and the health check, a shell command that finds the
# folder of the release in $RELEASE.
enter
require_lock "$1"
token=$1
hash=$2
[ -d "releases/$hash" ] || exit "$NO_RELEASE"
keep=$3
unit=$4
steady=$5
limit=$6
health=$7
trap '' HUP PIPE

# From here on this script owns the lock. It keeps the words about who asked.
set -- $token
shift 3
mine="$(identity) $*"
rm -f "lock.new.$$"
ln -s "$mine" "lock.new.$$"
mv -T "lock.new.$$" lock

unlock() {
    if [ "$(lock_text)" = "$mine" ]; then
        rm -f lock
    fi
}

# The only thing that needs more than this user's rights.
control() {
    if [ "$(id -u)" = 0 ]; then
        timeout -s KILL "$limit" systemctl "$1" "$unit" </dev/null >control.log 2>&1
    else
        timeout -s KILL "$limit" sudo -n systemctl "$1" "$unit" </dev/null >control.log 2>&1
    fi
}

# Whether the unit runs as the same process for $steady seconds.
is_steady() {
    process=$(systemctl show --property=MainPID --value "$unit")
    seconds=0
    while :; do
        systemctl is-active --quiet "$unit" || return 1
        [ "$(systemctl show --property=MainPID --value "$unit")" = "$process" ] || return 1
        [ "$seconds" -lt "$steady" ] || return 0
        sleep 1
        seconds=$((seconds + 1))
    done
}

# Restarts the unit and checks what runs now; $reason says what is wrong.
is_healthy() {
    control restart || { reason="the unit $unit does not start"; return 1; }
    is_steady || { reason="the unit $unit does not keep running"; return 1; }
    code=0
    RELEASE=$PWD/releases/$1 timeout -s KILL "$limit" sh -c "$health" </dev/null >health.log 2>&1 || code=$?
    case $code in
        0) return 0 ;;
        124 | 137) reason="the health check did not end within $limit s" ;;
        *) reason="the health check failed with code $code" ;;
    esac
    return 1
}

# Removes releases beyond the newest $keep, never one in use, then what no
# release refers to. A release leaves its place in one step.
prune() {
    kept=0
    for release in $(ls -t releases); do
        kept=$((kept + 1))
        [ "$kept" -gt "$keep" ] || continue
        case $release in "$(release_of current)" | "$(release_of previous)") continue ;; esac
        mv "releases/$release" "staging/$release"
        rm -rf "staging/$release"
    done
    used=$(cat releases/*/SHA256SUMS)
    for object in objects/*; do
        case $used in *"${object#objects/}"*) ;; *) rm -f "$object" ;; esac
    done
    rm -f incoming/*
}

# Does the program start at all? Nothing has changed if it does not.
if ! timeout -s KILL "$limit" "releases/$hash/bin/device-run" --version </dev/null >trial.log 2>&1; then
    say log "$(tail -n 1 trial.log)"
    unlock
    exit "$NOT_RUNNABLE"
fi

# The way back: a link that only has to be renamed to `current`, which works on
# a full disk too. If it is there already, an earlier activation was cut off:
# then the active release is unproven, and the way back leads before it.
if [ ! -L pending ]; then
    before=$(release_of current)
    ln -s "releases/${before:-none}" pending
    flush .
fi
before=$(release_of pending)
[ -d "releases/$before" ] || before=none

# The switch.
if [ "$(release_of current)" != "$hash" ]; then
    point "releases/$hash" current
fi

if is_healthy "$hash"; then
    if [ "$before" != none ] && [ "$before" != "$hash" ]; then
        point "releases/$before" previous
    fi
    rm -f pending
    flush .
    write outcome "$hash healthy" || :
    prune || :
    unlock
    say active "$hash"
    exit 0
fi

# Back.
say reason "$reason"
say log "$(cat control.log health.log 2>/dev/null | tail -n 1)"
failure=$reason
ending=$ROLLED_BACK
if [ "$before" = "$hash" ]; then
    ending=$UNHEALTHY
    rm -f pending
    flush .
elif [ "$before" = none ]; then
    rm -f current pending
    flush .
    control stop || :
    ending=$DEACTIVATED
else
    # One step ends both the new release and the state of being unproven.
    mv -T pending current
    flush .
    if ! { control restart && is_steady; }; then ending=$UNHEALTHY; fi
fi
write outcome "$hash unhealthy: $failure" || :
unlock
exit "$ending"

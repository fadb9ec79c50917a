# Installs the release beside this script on this device, by the steps that
# host-flash takes over SSH: copied beside the others, checked byte by byte,
# switched to in one step, judged, and switched back from if it is not healthy.
#   sh install               installs
#   sh install --rollback    goes back to the release before
# Prints what came of it. Exit codes: 0 the release is active and healthy, 59
# another board, 60 and above as `steps/` say: the release before is active.
# The device was prepared once by the script of `host-flash --print-setup`.
# HEADROOM_ROOT is another root folder, HEADROOM_ANY_BOARD=1 goes without the
# check of the board (a container sees no device tree).
set -eu
LC_ALL=C
export LC_ALL
WRONG_BOARD=59
here=$(cd "$(dirname "$0")" && pwd)
root=${HEADROOM_ROOT:-$root}
system=${HEADROOM_SYSTEM_ROOT:-}

# The device tree's names look like `nvidia,p3737-0000+p3701-0005`: maker, carrier and module.
is_board() {
    found=$(tr '\0,+' '\n\n\n' <"$system/proc/device-tree/compatible" 2>/dev/null) || found=
    for module in $modules; do
        for part in $found; do
            [ "${part%-super}" != "$module" ] || return 0
        done
    done
    return 1
}

# Runs a step; the lock's keeper must not be kept alive by it.
step() {
    name=$1
    shift
    sh "$here/steps/$name.sh" "$root" "$@" 3>&-
}

if [ "${HEADROOM_ANY_BOARD:-}" != 1 ] && ! is_board; then
    echo "error: this is no $board: expected a module $modules, found $(echo $found)" >&2
    exit "$WRONG_BOARD"
fi

# The lock is kept as long as the writing end of `hold` is open, that is, as long as this script runs.
work=$(mktemp -d)
trap 'exec 3>&-; rm -rf "$work"' EXIT
mkfifo "$work/hold" "$work/answer"
sh "$here/steps/lock.sh" "$root" "install of a package since $(date -u +%s)" <"$work/hold" >"$work/answer" &
keeper=$!
exec 3>"$work/hold"
answer=
lock=
read -r answer lock <"$work/answer" || :
if [ "$answer" != taken ]; then
    code=0
    wait "$keeper" || code=$?
    case $answer in
        locked) echo "error: another installation is at work: $lock" >&2 ;;
        *) echo "error: cannot take the lock in $root: was the device prepared?" >&2 ;;
    esac
    exit "$code"
fi

if [ "${1:-}" = --rollback ]; then
    # While a release is unproven, the way back leads before it.
    hash=$(readlink "$root/pending" || readlink "$root/previous") || hash=none
    hash=${hash##*/}
else
    cd "$here/release"
    hash=$(sha256sum SHA256SUMS)
    hash=${hash%% *}
    copy() {
        while IFS= read -r line; do
            object=${line%%  *}
            path=${line#*  }
            [ ! -f "$root/objects/$object" ] || continue
            step receive "$lock" "$object" "$(($(wc -c <"$path")))" 0 <"$path" || return $?
        done <SHA256SUMS
    }
    step prepare "$lock"
    code=0
    copy || code=$?
    [ "$code" = 0 ] || { echo "error: the package cannot be copied" >&2; exit "$code"; }
    # Objects of earlier releases that have rotted are removed by the first attempt.
    step assemble "$lock" "$hash" <SHA256SUMS >"$work/said" || { copy && step assemble "$lock" "$hash" <SHA256SUMS; } || code=$?
    [ "$code" = 0 ] || { echo "error: the release cannot be put together" >&2; exit "$code"; }
fi
step activate "$lock" "$hash" "$keep" "$unit" "$steady" "$limit" "$health"

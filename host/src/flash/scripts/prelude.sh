# What every script begins with. A device needs a POSIX shell and the coreutils;
# those of busybox do. The first argument of every script is the root: the
# folder that host-flash owns. Values arrive as arguments or on stdin and are
# never part of the text of a script.
set -eu
LC_ALL=C
export LC_ALL
umask 022
root=$1
shift

# One line for the host. The connection may be gone: that is no failure here.
say() {
    printf '%s %s\n' "$1" "$2" 2>/dev/null || :
}

# All paths below are relative to the root.
enter() {
    cd "$root" 2>/dev/null || exit "$NOT_SET_UP"
}

# Waits until the named files and folders are on the disk. A sync that takes no
# names flushes everything.
flush() {
    sync "$@"
}

# Replaces the file $1 by the text $2 in one step.
write() {
    cat >"$1.new" <<END
$2
END
    flush "$1.new"
    mv -f "$1.new" "$1"
    flush .
}

# Points the link $2 to $1 in one step: at no moment there is no link.
point() {
    rm -f "$2.new"
    ln -s "$1" "$2.new"
    mv -T "$2.new" "$2"
    flush .
}

# The release that the link $1 points to; nothing if there is no such link.
release_of() {
    [ -L "$1" ] || return 0
    target=$(readlink "$1")
    printf '%s' "${target##*/}"
}

# The bytes of a file, 0 if it is not there.
size_of() {
    if [ -f "$1" ]; then echo "$(($(wc -c <"$1")))"; else echo 0; fi
}

# The start time of process $1 in clock ticks since boot, which no later
# process with the same number shares: field 22 of proc_pid_stat(5).
start_of() {
    { read -r stat <"/proc/$1/stat"; } 2>/dev/null || return 1
    # The name is in parentheses and may hold anything; the state follows.
    set -- ${stat##*) }
    shift 19
    echo "$1"
}

# "boot process start" of this script, with which its locks begin.
identity() {
    read -r boot </proc/sys/kernel/random/boot_id
    echo "$boot $$ $(start_of $$)"
}

# Whether the process that took the lock with the text $1 still runs. Needs no
# clock: a lock of another boot, or of a process that is gone, is stale.
alive() {
    read -r boot </proc/sys/kernel/random/boot_id
    set -- $1
    [ "$boot" = "$1" ] && [ "$(start_of "$2")" = "$3" ]
}

# The text of the lock; nothing if it is free. The text is the target of a
# symbolic link, so that taking the lock and signing it are one step.
lock_text() {
    readlink lock 2>/dev/null || :
}

# Nothing is changed without the lock.
require_lock() {
    [ "$(lock_text)" = "$1" ] || exit "$LOCK_LOST"
}

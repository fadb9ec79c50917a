# Takes the lock and keeps it until stdin ends, that is, as long as the host or
# the connection lives.
# Arguments: who asks. Prints the lock's text, or the owner's if it is taken.
enter
text="$(identity) $1"
attempts=0
while ! ln -s "$text" lock 2>/dev/null; do
    owner=$(lock_text)
    if [ -z "$owner" ]; then
        # No lock is in the way: it was freed just now, or nothing can be created here.
        attempts=$((attempts + 1))
        [ "$attempts" -lt 5 ] || { ln -s "$text" lock; break; }
        continue
    fi
    if alive "$owner"; then
        say locked "$owner"
        exit "$LOCKED"
    fi
    # Stale. It is moved away before it is removed, so that of two who find it
    # only one does, and a lock that was taken meanwhile is put back.
    mv lock "lock.stale.$$" 2>/dev/null || continue
    moved=$(readlink "lock.stale.$$")
    rm -f "lock.stale.$$"
    [ "$moved" = "$owner" ] || ln -s "$moved" lock 2>/dev/null || :
done
trap '' HUP PIPE
say taken "$text"
while read -r _; do :; done
# An activation takes the lock over and frees it itself.
if [ "$(lock_text)" = "$text" ]; then
    rm -f lock
fi

# Receives one object, or the rest of it.
# Arguments: the lock's text, the object's hash and size, and the bytes of it
# that are there. Stdin: the bytes that follow.
enter
require_lock "$1"
hash=$2
size=$3
offset=$4
part=incoming/$hash
if [ "$offset" = 0 ]; then
    rm -f "$part"
fi
[ "$(size_of "$part")" = "$offset" ] || exit "$MOVED"
cat >>"$part"
flush "$part"
# The connection was cut: what has come stays for the next attempt.
[ "$(size_of "$part")" -ge "$size" ] || exit "$SHORT"
set -- $(sha256sum "$part")
if [ "$1" != "$hash" ]; then
    rm -f "$part"
    exit "$CORRUPT"
fi
# An object appears only now: whole, checked and on the disk.
mv -f "$part" "objects/$hash"
flush objects

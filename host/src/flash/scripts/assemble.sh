# Builds a release from objects, beside the others.
# Arguments: the lock's text and the release's hash. Stdin: its list of files,
# as sha256sum -c reads it; the hash of the release is that of this list.
enter
require_lock "$1"
hash=$2
release=releases/$hash
stage=staging/$hash
rm -rf "$stage"
mkdir -p "$stage"
cat >"$stage/SHA256SUMS"
set -- $(sha256sum "$stage/SHA256SUMS")
[ "$1" = "$hash" ] || exit "$SHORT"

# Hard links where the file system has them: a release costs no space twice.
while IFS= read -r line; do
    object=objects/${line%%  *}
    path=$stage/${line#*  }
    [ -d "${path%/*}" ] || mkdir -p "${path%/*}"
    [ -f "$object" ] || continue
    ln "$object" "$path" 2>/dev/null || cp "$object" "$path"
    case $path in "$stage"/bin/*) chmod 755 "$path" ;; esac
done <"$stage/SHA256SUMS"

# Every byte is read once more. Objects that have rotted are removed and told,
# so that the host sends them again.
if ! (cd "$stage" && sha256sum -c SHA256SUMS) >/dev/null 2>&1; then
    while IFS= read -r line; do
        object=${line%%  *}
        [ "$(sha256sum "objects/$object" 2>/dev/null)" = "$object  objects/$object" ] || {
            rm -f "objects/$object"
            say corrupt "$object"
        }
    done <"$stage/SHA256SUMS"
    rm -rf "$stage"
    exit "$CORRUPT"
fi
flush "$stage"/* "$stage"/*/* "$stage"

if [ ! -d "$release" ]; then
    # A release appears only now: whole, checked and on the disk.
    mv "$stage" "$release"
    flush releases
elif ! (cd "$release" && sha256sum -c SHA256SUMS) >/dev/null 2>&1; then
    # It is there and damaged, and it may be the active one. It is mended file
    # by file, each in one step, so that it is never worse than before.
    mv -f "$stage/SHA256SUMS" "$release/SHA256SUMS"
    while IFS= read -r line; do
        path=$release/${line#*  }
        set -- $(sha256sum "$path" 2>/dev/null) missing
        [ "$1" != "${line%%  *}" ] || continue
        [ -d "${path%/*}" ] || mkdir -p "${path%/*}"
        mv -f "$stage/${line#*  }" "$path"
    done <"$release/SHA256SUMS"
    flush "$release"/* "$release"/*/* "$release"
fi
rm -rf "$stage"

# Tells what the device is. Changes nothing.
# Arguments: the root of the system's own files, the unit, and the names of
# shared libraries to look for.
system=$1
unit=$2
shift 2

# Which board: the device tree's names, each ended by a zero byte.
tree=$system/proc/device-tree
if [ -r "$tree/compatible" ]; then say compatible "$(tr '\0' ' ' <"$tree/compatible")"; fi
if [ -r "$tree/model" ]; then say model "$(tr '\0' ' ' <"$tree/model")"; fi
say machine "$(uname -m)"

# Which system.
if [ -r "$system/etc/nv_tegra_release" ]; then say l4t "$(head -n 1 "$system/etc/nv_tegra_release")"; fi
say libc "$({ getconf GNU_LIBC_VERSION || ldd --version; } 2>/dev/null | head -n 1)"
if [ -r "$system/usr/local/cuda/version.json" ]; then
    say cuda "$(sed -n 's/.*"version" *: *"\([0-9.]*\)".*/\1/p' "$system/usr/local/cuda/version.json" | head -n 1)"
fi
for library in "$@"; do
    for folder in "$system"/lib "$system"/lib/* "$system"/lib64 "$system"/usr/lib "$system"/usr/lib/* \
        "$system"/usr/lib/*/tegra "$system"/usr/lib/*/nvidia "$system"/usr/lib64 "$system"/usr/local/lib \
        "$system"/usr/local/cuda/lib64; do
        if [ -e "$folder/$library" ]; then
            say library "$library"
            break
        fi
    done
done
say clock "$(date -u +%s)"

# What an installation needs.
for tool in cat chmod cp df head id ln ls mkdir mv readlink rm sha256sum sleep sync systemctl timeout wc; do
    command -v "$tool" >/dev/null 2>&1 || say missing "$tool"
done
if [ ! -d "$root" ]; then
    say root missing
elif [ ! -w "$root" ] || [ ! -x "$root" ]; then
    say root unwritable
else
    say root ready
    # The last line: the name of the file system may be long, never broken (-P).
    set -- $(df -Pk "$root" | tail -n 1)
    say free "$4"
fi
say unit "$(systemctl show --property=LoadState --value "$unit" 2>/dev/null || :)"
if [ "$(id -u)" = 0 ] || sudo -n -l systemctl restart "$unit" >/dev/null 2>&1; then
    say restart allowed
else
    say restart refused
fi

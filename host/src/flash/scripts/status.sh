# Tells what is installed. Changes nothing.
# Arguments: the unit.
enter
unit=$1
say current "$(release_of current)"
say previous "$(release_of previous)"
# There while the active release is unproven: what was active before.
say pending "$(release_of pending)"
if [ -f outcome ]; then
    read -r line <outcome || line=
    say outcome "$line"
fi
owner=$(lock_text)
if [ -n "$owner" ]; then
    if alive "$owner"; then say locked "$owner"; else say stale "$owner"; fi
fi
say unit "$(systemctl is-active "$unit" 2>/dev/null || :)"
for release in releases/*/release.json; do
    [ -f "$release" ] || continue
    read -r description <"$release" || continue
    release=${release%/release.json}
    say release "${release#releases/} $description"
done

# 1. The folder that this user may write to: releases, and the link to the active one.
install -d -o "$user" -m 755 "$DESTDIR$root"

# 2. The paths that the unit knows lead into the active release.
install -d -m 755 "$DESTDIR$bundles" "$DESTDIR${programs%/*}"
for path in "$DESTDIR$programs" "$DESTDIR$bundles/current"; do
    if [ -e "$path" ] && [ ! -L "$path" ]; then
        echo "$path is there already and no link: move it away first" >&2
        exit 1
    fi
done
ln -sfn "$root/current/bin" "$DESTDIR$programs"
ln -sfn "$root/current/bundle" "$DESTDIR$bundles/current"

# 3. This user may restart and stop this one unit without a password, nothing else.
systemctl=$(command -v systemctl)
install -d -m 750 "$DESTDIR/etc/sudoers.d"
rules=$DESTDIR/etc/sudoers.d/headroom-flash
cat >"$rules.new" <<RULES
$user ALL=(root) NOPASSWD: $systemctl restart $unit, $systemctl stop $unit
RULES
chmod 440 "$rules.new"
# A broken file would lock everybody out of sudo.
if command -v visudo >/dev/null; then visudo -cqf "$rules.new"; fi
mv "$rules.new" "$rules"

# 4. The limits, unless there are some.
if [ -n "$(limits_file)" ] && [ ! -e "$DESTDIR/etc/headroom/limits.toml" ]; then
    install -d -m 755 "$DESTDIR/etc/headroom"
    limits_file >"$DESTDIR/etc/headroom/limits.toml"
fi

# 5. The unit.
install -d -m 755 "$DESTDIR/etc/systemd/system"
unit_file >"$DESTDIR/etc/systemd/system/$unit"
if [ -z "$DESTDIR" ]; then
    systemctl daemon-reload
    systemctl enable "$unit"
fi
echo "ready: host-flash can install releases as $user"

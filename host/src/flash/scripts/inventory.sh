# Tells which objects are there. Changes nothing.
# Stdin: a line "hash size" for each object.
enter
while read -r hash size; do
    if [ "$(size_of "objects/$hash")" = "$size" ] && [ -f "objects/$hash" ]; then
        say have "$hash"
    else
        say need "$hash $(size_of "incoming/$hash")"
    fi
done

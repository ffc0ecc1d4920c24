# shellcheck shell=bash
# The command line client, every command it has; its output must be what it printed against Java
# (expected.txt, made by scripts/compat --server java --record zkcli).

software() {
    echo "zkCli $(apache_version)"
}

prepare() {
    need_java
    classes "$(apache_jars)" "$CLIENTS/zkcli/Script.java"
}

# Times and session ids differ from run to run. Zxids do not: the server is fresh. Lists of ephemerals come
# in the order of a hash table.
mask() {
    python3 -c '
import re, sys
text = sys.stdin.read().replace(sys.argv[1], "SERVER")
text = re.sub(r"(?m)^(. )?([cm]time) = .*", r"\2 = TIME", text)
text = re.sub(r"\b0x1[0-9a-f]{14}\b", "0xSESSION", text)
text = re.sub(r"(?m)^\[(/.*)\]$", lambda m: "[" + ", ".join(sorted(m[1].split(", "))) + "]", text)
print(text, end="")' "$ZK"
}

run() {
    local cp status=0
    cp=$(apache_jars)
    cp+=:$(classes "$cp" "$CLIENTS/zkcli/Script.java")
    java "${JVM[@]}" -Dlog.level=OFF -cp "$cp" Script "$ZK" "$CLIENTS/zkcli/commands.txt" "$WORK/output" || status=$?
    mask <"$WORK/output" >"$WORK/masked"
    echo "[exit $status]" >>"$WORK/masked"
    if [[ -n $RECORD ]]; then cp "$WORK/masked" "$CLIENTS/zkcli/expected.txt"; fi
    diff -u "$CLIENTS/zkcli/expected.txt" "$WORK/masked"
}

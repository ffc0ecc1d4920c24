# shellcheck shell=bash
# The command line client, every command it has; its output must be what it printed against Java
# (expected.txt, made by scripts/compat --server java --record zkcli). Then members.txt against three members.

software() {
    echo "zkCli $(apache_version)"
}

prepare() {
    need_java
    classes "$(apache_jars)" "$CLIENTS/zkcli/Script.java"
}

# Times and session ids differ from run to run. Zxids do not: the server is fresh. Lists of ephemerals come
# in the order of a hash table.
mask() { # SERVER
    python3 -c '
import re, sys
text = sys.stdin.read().replace(sys.argv[1], "SERVER").replace(sys.argv[2], "WORK")
text = re.sub(r"(?m)^(. )?([cm]time) = .*", r"\2 = TIME", text)
text = re.sub(r"\b0x[123][0-9a-f]{14}\b", "0xSESSION", text)
text = re.sub(r"(?m)^\[(/.*)\]$", lambda m: "[" + ", ".join(sorted(m[1].split(", "))) + "]", text)
text = re.sub(r"127.0.0.1:\d{5}:\d{5}:", "127.0.0.1:QUORUM:ELECTION:", text)
text = re.sub(r"127.0.0.1:\d{5}\b", "127.0.0.1:CLIENT", text)
# These events come out of a hash table of the client.
text = re.sub(r"(?:\nWATCHER::\n\nWatchedEvent .*Removed path.*\n){2,}",
    lambda m: "".join(sorted(re.findall(r"\nWATCHER::\n\n.*\n", m[0]))), text)
print(text, end="")' "$1" "$WORK"
}

script() { # SERVER COMMANDS
    local status=0
    java "${JVM[@]}" -Dlog.level=OFF -cp "$CP" Script "$1" "$2" "$WORK/output" || status=$?
    mask "$1" <"$WORK/output"
    echo "[exit $status]"
}

# As scripts call it: the command is an argument, and the answer is the last line.
once_only() { # SERVER ARGUMENT...
    local status=0
    java "${JVM[@]}" -Dlog.level=OFF -cp "$CP" org.apache.zookeeper.ZooKeeperMain -server "$1" "${@:2}" \
        >"$WORK/once" 2>&1 || status=$?
    echo "\$ zkCli.sh ${*:2}"
    mask "$1" <"$WORK/once" | grep -v '^$' | tail -n 1
    echo "[exit $status]"
}

members() {
    local member
    write_members 3
    sed -n 's/^\(server\..*\)/\1:participant/p' "$WORK/1/zoo.cfg" >"$WORK/three"
    { cat "$WORK/three"; echo 'server.9=127.0.0.1:1:2:observer;127.0.0.1:3'; } >"$WORK/four"
    sed "s|\$MEMBERS|$(paste -s -d, "$WORK/three")|; s|\$FILE|$WORK/four|" "$CLIENTS/zkcli/members.txt"
    for member in 1 2 3; do start_member "$member"; done
    await_members 3
}

run() {
    local member ran of all rest
    CP=$(apache_jars)
    CP+=:$(classes "$CP" "$CLIENTS/zkcli/Script.java")
    {
        script "$ZK" "$CLIENTS/zkcli/commands.txt"
        once_only "$ZK" -waitforconnection getAllChildrenNumber /zookeeper
        once_only "$ZK" -r -timeout 5000 -waitforconnection ls /
        once_only "$ZK" -waitforconnection get /none
        members >"$WORK/members"
        member=127.0.0.1:$(cat "$WORK/1/port")
        script "$member" "$WORK/members"
    } >"$WORK/masked"
    if [[ -n $RECORD ]]; then cp "$WORK/masked" "$CLIENTS/zkcli/expected.txt"; fi
    diff -u "$CLIENTS/zkcli/expected.txt" "$WORK/masked"
    # The first script is the one that has them all.
    read -r ran of all rest < <(grep '^[0-9]* of [0-9]* commands' "$WORK/masked")
    echo "$ran $of $all $rest"
    counted "$all" "$ran"
}

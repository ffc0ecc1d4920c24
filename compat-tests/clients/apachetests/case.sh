# shellcheck shell=bash
# ZooKeeper's own tests, on processes of the server. Where the tests have a Java server in their own process, the shim
# has a process. The classes that run are in classes.txt; left.txt has the others, each with its reason.
#
# The shim is one class at the extension point of a Java server (zookeeper.serverCnxnFactory), so that the launchers of
# ClientBase and of single tests run as they are, and a few that stand before those of the test jar: ensembles, the
# thread that runs a configuration file, and the questions about management beans.

# A Java server takes its time to start, and the tests start several hundred.
settings SLOW=yes "LIMIT=$([[ $SERVER == java ]] && echo 2400 || echo 480)"

# shellcheck source-path=SCRIPTDIR/.. source=junit.sh
source "$CLIENTS/junit.sh"

software() {
    echo "ZooKeeper $(sed -n 's/.*<zookeeper.version>\(.*\)<.*/\1/p' "$CLIENTS/apachetests/pom.xml"), its own tests"
}

shim() { # JARS
    local sources=()
    mapfile -t sources < <(find "$CLIENTS/apachetests/shim" -name '*.java' | sort)
    classes "$1" "${sources[@]}" "$CLIENTS/java/zooid/ServerProcess.java"
}

prepare() {
    need_java
    apache_jars
    shim "$(jars "$CLIENTS/apachetests/pom.xml")"
}

run() {
    local cp own
    cp=$(jars "$CLIENTS/apachetests/pom.xml")
    own=$(shim "$cp")
    # Of two classes of one name the first counts. ZooKeeper's build sets that digest, of super:test, for every test.
    run_test_classes 3 org.apache.zookeeper "$own:$CLIENTS/apachetests/shim:$cp" \
        -Djunit.jupiter.extensions.autodetection.enabled=true \
        -Dzookeeper.serverCnxnFactory=zooid.ProcessFactory \
        -Dzookeeper.DigestAuthenticationProvider.superDigest=super:D/InIHSb7yEEbrWz8b9l71RjZJU=
}

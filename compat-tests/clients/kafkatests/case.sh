# shellcheck shell=bash
# Kafka's own tests, on processes of the server instead of Java servers inside the tests. The classes that run are
# in classes.txt; left.txt has the others, each with its reason.

# shellcheck source-path=SCRIPTDIR/.. source=junit.sh
source "$CLIENTS/junit.sh"

settings LIMIT=600 SLOW=yes

software() {
    echo "Kafka $(sed -n 's/.*<kafka.version>\(.*\)<.*/\1/p' "$CLIENTS/kafkatests/pom.xml"), its own tests"
}

shim() { # JARS
    classes "$1" "$CLIENTS/java/zooid/ServerProcess.java" "$CLIENTS/kafkatests/shim/WithoutKRaft.java" \
        "$CLIENTS/kafkatests/shim/kafka/zk/EmbeddedZookeeper.java"
}

prepare() {
    need_java
    shim "$(jars "$CLIENTS/kafkatests/pom.xml")"
    if [[ $SERVER == java ]]; then apache_jars; fi
}

run() {
    local cp
    cp=$(jars "$CLIENTS/kafkatests/pom.xml")
    # Of two classes of one name the first counts. Against Java too the server is a process: it is then the version
    # that the other cases have, and not that of Kafka's client.
    cp=$(shim "$cp"):$CLIENTS/kafkatests/shim:$CLIENTS/kafka:$cp
    run_test_classes 2 kafka "$cp" -Xmx512m -Djunit.jupiter.extensions.autodetection.enabled=true
}

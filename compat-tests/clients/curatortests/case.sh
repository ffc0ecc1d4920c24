# shellcheck shell=bash
# Curator's own tests, on processes of the server instead of Java servers inside the tests. The classes that run are
# in classes.txt; left.txt has the others, each with its reason.

# shellcheck source-path=SCRIPTDIR/.. source=junit.sh
source "$CLIENTS/junit.sh"

settings LIMIT=600 SLOW=yes

software() {
    echo "Curator $(sed -n 's/.*<curator.version>\(.*\)<.*/\1/p' "$CLIENTS/curatortests/pom.xml"), its own tests"
}

shim() { # JARS
    classes "$1" "$CLIENTS/java/zooid/ServerProcess.java" \
        "$CLIENTS/curatortests/shim/org/apache/curator/test/ZooKeeperServerEmbeddedAdapter.java"
}

prepare() {
    need_java
    shim "$(jars "$CLIENTS/curatortests/pom.xml")"
}

run() {
    local cp
    cp=$(jars "$CLIENTS/curatortests/pom.xml")
    # Of two classes of one name the first counts. The Java server is that of curator-test, inside the tests.
    [[ $SERVER == java ]] || cp=$(shim "$cp"):$cp
    run_test_classes 2 org.apache.curator "$cp"
}

# shellcheck shell=bash
# Curator's own tests, on processes of the server instead of Java servers inside the tests. The classes that run are
# in classes.txt; left.txt has the others, each with its reason.

settings LIMIT=600 SLOW=yes

software() {
    echo "Curator $(sed -n 's/.*<curator.version>\(.*\)<.*/\1/p' "$CLIENTS/curatortests/pom.xml"), its own tests"
}

# scripts/compat need not start any.
own_servers() {
    :
}

shim() { # JARS
    classes "$1" "$CLIENTS/curatortests/shim/org/apache/curator/test/ZooKeeperServerEmbeddedAdapter.java"
}

prepare() {
    need_java
    shim "$(jars "$CLIENTS/curatortests/pom.xml")"
}

run() {
    local cp class select=() options=() status=0 total failed
    cp=$(jars "$CLIENTS/curatortests/pom.xml")
    if [[ $SERVER == zooid ]]; then
        # Of two classes of one name the first counts.
        cp=$(shim "$cp"):$cp
        options=("-Dzooid.bin=$(zooid_bin)" "-Dzooid.work=$WORK")
    fi
    while read -r class; do
        [[ -z $class || $class == '#'* ]] || select+=("--select-class=org.apache.curator.$class")
    done <"$CLIENTS/curatortests/classes.txt"
    java "${JVM[@]}" -Xmx512m -Dlog.level=OFF "-Djava.io.tmpdir=$WORK" "${options[@]}" -cp "$cp" \
        org.junit.platform.console.ConsoleLauncher execute --disable-banner --disable-ansi-colors --details=testfeed \
        --fail-if-no-tests --config=junit.jupiter.execution.timeout.default=120s "--reports-dir=$WORK/reports" \
        "${select[@]}" >"$WORK/tests.log" 2>&1 || status=$?
    cat "$WORK/tests.log"
    # A class that has gone, or whose tests are all gone, is no success.
    for class in "${select[@]}"; do
        grep -q "classname=\"${class#*=}\"" "$WORK"/reports/*.xml || { echo "no test of ${class#*=} has run" && status=1; }
    done
    total=$(sed -n 's/^\[ *\([0-9]*\) tests started.*/\1/p' "$WORK/tests.log")
    failed=$(sed -n 's/^\[ *\([0-9]*\) tests failed.*/\1/p' "$WORK/tests.log")
    echo "${#select[@]} classes, $total tests run, $((total - failed)) passed, $failed failed"
    return $status
}

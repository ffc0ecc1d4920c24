# shellcheck shell=bash
# Curator's own tests, on processes of the server instead of Java servers inside the tests. The classes that run are
# in classes.txt; left.txt has the others, each with its reason.

settings LIMIT=540 SLOW=yes

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

# Most of the time a test waits, so two run at once, each in a JVM of its own.
run() {
    local cp class lane all=() options=() pids=() status=0
    cp=$(jars "$CLIENTS/curatortests/pom.xml")
    if [[ $SERVER == zooid ]]; then
        # Of two classes of one name the first counts.
        cp=$(shim "$cp"):$cp
        options=("-Dzooid.bin=$(zooid_bin)")
    fi
    mapfile -t all < <(sed '/^#/d; s/^/org.apache.curator.framework.recipes./' "$CLIENTS/curatortests/classes.txt")
    for lane in 0 1; do
        tests "$lane" &
        pids+=($!)
    done
    for lane in 0 1; do
        wait "${pids[lane]}" || status=1
        cat "$WORK/tests$lane.log"
    done
    # A class that has gone, or whose tests are all gone, is no success.
    for class in "${all[@]}"; do
        grep -q "classname=\"$class\"" "$WORK"/reports[01]/*.xml || { echo "no test of $class has run" && status=1; }
    done
    echo "${#all[@]} classes, $(count started) tests run, $(count successful) passed, $(count failed) failed"
    return $status
}

count() { # WHAT
    sed -n "s/^\[ *\([0-9]*\) tests $1.*/\1/p" "$WORK"/tests[01].log | awk '{ sum += $1 } END { print sum + 0 }'
}

# Every second class of all; with what run has set.
tests() { # LANE
    local number select=()
    for ((number = $1; number < ${#all[@]}; number += 2)); do select+=("--select-class=${all[number]}"); done
    mkdir "$WORK/lane$1"
    exec java "${JVM[@]}" -Dlog.level=OFF "-Djava.io.tmpdir=$WORK/lane$1" "-Dzooid.work=$WORK/lane$1" "${options[@]}" \
        -cp "$cp" org.junit.platform.console.ConsoleLauncher execute --disable-banner --disable-ansi-colors \
        --details=testfeed --fail-if-no-tests --config=junit.jupiter.execution.timeout.default=120s \
        "--reports-dir=$WORK/reports$1" "${select[@]}" >"$WORK/tests$1.log" 2>&1
}

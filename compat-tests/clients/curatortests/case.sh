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

# Most of the time a test waits, so two run at once, each in a JVM of its own. Some of these tests race with
# themselves: what fails has a second try, alone, and fails if it does so again.
run() {
    local cp class lane number all=() again=() options=() pids=() status=0
    cp=$(jars "$CLIENTS/curatortests/pom.xml")
    if [[ $SERVER == zooid ]]; then
        # Of two classes of one name the first counts.
        cp=$(shim "$cp"):$cp
        options=("-Dzooid.bin=$(zooid_bin)")
    fi
    mapfile -t all < <(sed '/^#/d; s/^/org.apache.curator.framework.recipes./' "$CLIENTS/curatortests/classes.txt")
    for lane in 0 1; do
        local select=()
        for ((number = lane; number < ${#all[@]}; number += 2)); do select+=("--select-class=${all[number]}"); done
        tests "$lane" "${select[@]}" &
        pids+=($!)
    done
    for lane in 0 1; do
        # The launcher ends with 1 when tests have failed, and with something else when it could not run them.
        wait "${pids[lane]}" || status=$?
        cat "$WORK/tests$lane.log"
        ((status <= 1)) || return "$status"
    done
    # A class that has gone, or whose tests are all gone, is no success.
    for class in "${all[@]}"; do
        grep -q "classname=\"$class\"" "$WORK"/reports[01]/*.xml || { echo "no test of $class has run" && return 1; }
    done
    echo "${#all[@]} classes, $(count started) tests run, $(count successful) passed, $(count failed) failed"
    mapfile -t again < <(failures)
    if ((status == 0 && ${#again[@]} == 0)); then return; fi
    ((${#again[@]} > 0 && ${#again[@]} <= 5)) || return 1
    echo "once more: ${again[*]}"
    status=0
    tests 2 "${again[@]/#/--select-method=}" || status=$?
    cat "$WORK/tests2.log"
    return $status
}

count() { # WHAT
    sed -n "s/^\[ *\([0-9]*\) tests $1.*/\1/p" "$WORK"/tests[01].log | awk '{ sum += $1 } END { print sum + 0 }'
}

# CLASS#METHOD of every test that has failed.
failures() {
    python3 - "$WORK"/reports[01]/*.xml <<'PY'
import sys, xml.etree.ElementTree as xml
for report in sys.argv[1:]:
    for test in xml.parse(report).iter("testcase"):
        if test.find("failure") is not None or test.find("error") is not None:
            print(test.get("classname") + "#" + test.get("name"))
PY
}

# With what run has set.
tests() { # LANE SELECTION...
    local lane=$1
    shift
    mkdir "$WORK/lane$lane"
    java "${JVM[@]}" -Dlog.level=OFF "-Djava.io.tmpdir=$WORK/lane$lane" "-Dzooid.work=$WORK/lane$lane" "${options[@]}" \
        -cp "$cp" org.junit.platform.console.ConsoleLauncher execute --disable-banner --disable-ansi-colors \
        --details=testfeed --fail-if-no-tests --config=junit.jupiter.execution.timeout.default=120s \
        "--reports-dir=$WORK/reports$lane" "$@" >"$WORK/tests$lane.log" 2>&1
}

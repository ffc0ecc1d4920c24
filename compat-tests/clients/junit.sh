# shellcheck shell=bash
# Test classes that others have published, on processes of the server instead of Java servers inside the tests
# (java/zooid/ServerProcess.java); sourced by the case.sh of such a case. Its classes.txt names the classes that run,
# with `alone` behind one that needs a JVM of its own. Its left.txt has the others, each with its reason, and a line
# that begins with CLASS#METHOD leaves a single test out of a class that runs.

# scripts/compat need not start any: the tests do.
own_servers() {
    :
}

# Most of the time a test waits, so several lanes run at once, each in a JVM and a directory of its own. Some of these
# tests race with themselves: what fails has a second try, alone, and fails if it does so again.
run_test_classes() { # LANES PACKAGE CLASSPATH JVM_OPTION...
    local -i shared=$1 lanes lane number ran passed failed status=0
    local prefix=$2. cp=$3 class all=() alone=() left=() select=() again=() pids=()
    shift 3
    local options=("$@")
    mapfile -t all < <(sed "/^#/d; / alone$/d; s/^/$prefix/" "$CLIENTS/$CASE/classes.txt")
    mapfile -t alone < <(sed -n "s/^\([^#].*\) alone$/$prefix\1/p" "$CLIENTS/$CASE/classes.txt")
    mapfile -t left < <(sed -n "s/^\([A-Za-z][A-Za-z0-9.]*\)#\([A-Za-z0-9_]*\).*/--exclude-methodname=$prefix\1#\2/p" \
        "$CLIENTS/$CASE/left.txt")
    lanes=$((shared + ${#alone[@]}))
    for ((lane = 0; lane < lanes; lane++)); do
        select=()
        if ((lane < shared)); then
            for ((number = lane; number < ${#all[@]}; number += shared)); do select+=("${all[number]}"); done
        else
            select=("${alone[lane - shared]}")
        fi
        run_lane "$lane" "${left[@]}" "${select[@]/#/--select-class=}" &
        pids+=($!)
    done
    for ((lane = 0; lane < lanes; lane++)); do
        # The launcher ends with 1 when tests have failed, and with something else when it could not run them.
        wait "${pids[lane]}" || status=$((status > $? ? status : $?))
        cat "$WORK/lane$lane.log"
    done
    ((status <= 1)) || return "$status"
    # A class that has gone, or whose tests are all gone, is no success.
    for class in "${all[@]}" "${alone[@]}"; do
        grep -q "classname=\"$class\"" "$WORK"/reports*/*.xml || { echo "no test of $class has run" && return 1; }
    done
    ran=$(count started) passed=$(count successful) failed=$(count failed)
    echo "$((${#all[@]} + ${#alone[@]})) classes, $ran tests run, $passed passed, $failed failed"
    counted "$ran" "$passed"
    mapfile -t again < <(failures)
    if ((status == 0 && ${#again[@]} == 0)); then return; fi
    ((${#again[@]} > 0 && ${#again[@]} <= 5)) || return 1
    # Those whose class could not be set up have not run yet.
    ran=$((ran + ${#again[@]} - failed))
    printf 'once more: %s\n' "${again[@]}"
    rm -r "$WORK"/lane*.log
    status=0
    run_lane "$lanes" "${again[@]/#/--select-unique-id=}" || status=$?
    cat "$WORK/lane$lanes.log"
    passed=$((passed + $(count successful)))
    echo "$ran tests run, $passed passed, $((ran - passed)) failed twice"
    counted "$ran" "$passed"
    return $status
}

count() { # WHAT
    sed -n "s/^\[ *\([0-9]*\) tests $1.*/\1/p" "$WORK"/lane*.log | awk '{ sum += $1 } END { print sum + 0 }'
}

# The launcher's name of every test that has failed: of one with parameters, it names the run.
failures() {
    python3 - "$WORK"/reports*/*.xml <<'PY'
import re, sys, xml.etree.ElementTree as xml
for report in sys.argv[1:]:
    for test in xml.parse(report).iter("testcase"):
        if test.find("failure") is not None or test.find("error") is not None:
            print(re.search(r"^unique-id: (.*)$", test.findtext("system-out"), re.M)[1])
PY
}

# With what run_test_classes has set. ZooKeeper's tests share out the ports by the number of their JVM, and there are
# tests that write into the working directory.
run_lane() { # LANE SELECTION...
    local -i lane=$1
    local dir=$WORK/lane$lane
    shift
    mkdir "$dir"
    (
        cd "$dir" &&
            exec java "${JVM[@]}" -Dlog.level=OFF "-Djava.io.tmpdir=$dir" "-Dbuild.test.dir=$dir/build" \
            "-Dtest.junit.threads=$((lanes + 1))" "-Dzookeeper.junit.threadid=$((lane + 1))" "${options[@]}" \
            -cp "$cp" org.junit.platform.console.ConsoleLauncher execute --disable-banner --disable-ansi-colors \
            --details=testfeed --fail-if-no-tests --config=junit.jupiter.execution.timeout.default=120s \
            "--reports-dir=$WORK/reports$lane" "$@"
    ) >"$dir.log" 2>&1
}

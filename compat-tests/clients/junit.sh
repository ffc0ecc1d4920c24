# shellcheck shell=bash
# For the cases that run test classes which a project has published; sourced by their case.sh.

# Every class named on stdin, in two JVMs. Most of the time a test waits, so two run at once. Some of these tests race
# with themselves: what fails has a second try, alone, and fails if it does so again.
junit() { # CLASSPATH JAVA_OPTION...
    local class lane number all=() again=() pids=() status=0
    mapfile -t all
    for lane in 0 1; do
        local select=()
        for ((number = lane; number < ${#all[@]}; number += 2)); do select+=("--select-class=${all[number]}"); done
        junit_lane "$lane" "$@" -- "${select[@]}" &
        pids+=($!)
    done
    for lane in 0 1; do
        # The launcher ends with 1 when tests have failed, and with something else when it could not run them.
        wait "${pids[lane]}" || status=$((status > $? ? status : $?))
        cat "$WORK/tests$lane.log"
    done
    ((status <= 1)) || return "$status"
    # A class that has gone, or whose tests are all gone, is no success.
    for class in "${all[@]}"; do
        grep -q "classname=\"$class\"" "$WORK"/reports[01]/*.xml || { echo "no test of $class has run" && return 1; }
    done
    echo "${#all[@]} classes, $(junit_count started) tests run, $(junit_count successful) passed," \
        "$(junit_count failed) failed"
    mapfile -t again < <(junit_failures)
    if ((status == 0 && ${#again[@]} == 0)); then return; fi
    ((${#again[@]} > 0 && ${#again[@]} <= 5)) || return 1
    printf 'once more: %s\n' "${again[@]}"
    status=0
    junit_lane 2 "$@" -- "${again[@]/#/--select-unique-id=}" || status=$?
    cat "$WORK/tests2.log"
    return $status
}

junit_count() { # WHAT
    sed -n "s/^\[ *\([0-9]*\) tests $1.*/\1/p" "$WORK"/tests[01].log | awk '{ sum += $1 } END { print sum + 0 }'
}

# The launcher's name of every test that has failed.
junit_failures() {
    python3 - "$WORK"/reports[01]/*.xml <<'PY'
import re, sys, xml.etree.ElementTree as xml
for report in sys.argv[1:]:
    for test in xml.parse(report).iter("testcase"):
        if test.find("failure") is not None or test.find("error") is not None:
            print(re.search(r"^unique-id: (.*)$", test.findtext("system-out"), re.M)[1])
PY
}

junit_lane() { # LANE CLASSPATH JAVA_OPTION... -- SELECTION...
    local lane=$1 cp=$2 options=()
    shift 2
    while [[ $1 != -- ]]; do
        options+=("$1")
        shift
    done
    shift
    mkdir "$WORK/lane$lane"
    java "${JVM[@]}" -Dlog.level=OFF "-Djava.io.tmpdir=$WORK/lane$lane" "-Dzooid.work=$WORK/lane$lane" "${options[@]}" \
        -cp "$cp" org.junit.platform.console.ConsoleLauncher execute --disable-banner --disable-ansi-colors \
        --details=testfeed --fail-if-no-tests --config=junit.jupiter.execution.timeout.default=120s \
        "--reports-dir=$WORK/reports$lane" "$@" >"$WORK/tests$lane.log" 2>&1
}

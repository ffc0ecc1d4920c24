# shellcheck shell=bash
# Java clients of the past: what each of them can do, as of its time.

versions=(3.4.14 3.5.10 3.6.4 3.7.2 3.8.4)

software() {
    echo "Java clients ${versions[*]}"
}

old_jars() { # VERSION
    jars "$CLIENTS/oldjava/pom.xml" "-Dzookeeper.version=$1"
}

old_classes() { # VERSION
    local sources=("$CLIENTS"/java/{Check,Relay}.java "$CLIENTS/oldjava/Since34.java") later
    for later in 35 36 37; do
        if ((later <= 10#$(cut -d. -f1-2 <<<"$1" | tr -d .))); then sources+=("$CLIENTS/oldjava/Since$later.java"); fi
    done
    if [[ $1 == 3.4.* ]]; then sources+=("$CLIENTS/oldjava/fix34/StaticHostProvider.java"); fi
    classes "$(old_jars "$1")" "${sources[@]}"
}

prepare() {
    need_java
    local version
    for version in "${versions[@]}"; do
        old_classes "$version"
    done
}

# All versions at once: most of the time each of them waits, to connect again.
run() {
    local version pids=() failed=0
    for version in "${versions[@]}"; do
        java "${JVM[@]}" -Dlog.level=OFF -cp "$CLIENTS/oldjava:$(old_classes "$version"):$(old_jars "$version")" \
            Since34 "$ZK" "$version" >"$WORK/$version.log" 2>&1 &
        pids+=($!)
    done
    for version in "${versions[@]}"; do
        wait "${pids[0]}" || { failed=1 && echo "client $version failed"; }
        pids=("${pids[@]:1}")
        sed "s/^/$version: /" "$WORK/$version.log"
    done
    return $failed
}

# shellcheck shell=bash
# Apache Dubbo: a provider and a consumer find each other through the registry, and are told by the config centre.

settings SLOW=yes

software() {
    echo "Dubbo $(sed -n 's/.*<dubbo.version>\(.*\)<.*/\1/p' "$CLIENTS/dubbo/pom.xml")"
}

dubbo_path() {
    class_path Check.java Child.java
}

prepare() {
    need_java
    dubbo_path
}

# With no network interface to choose from, Dubbo stays on the loopback. Its caches below the user's home would outlive the run.
run() {
    local cp
    cp=$(dubbo_path)
    java "${JVM[@]}" -Dlog.level=WARN -Ddubbo.network.interface.ignored=.* -Duser.home="$WORK" -cp "$cp" Calls "$ZK" "$WORK" 2>"$WORK/consumer.log"
}

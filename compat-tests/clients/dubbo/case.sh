# shellcheck shell=bash
# Apache Dubbo: a provider and a consumer find each other through the registry, and are told by the config centre.

settings SLOW=yes

software() {
    echo "Dubbo $(sed -n 's/.*<dubbo.version>\(.*\)<.*/\1/p' "$CLIENTS/dubbo/pom.xml")"
}

dubbo_classes() { # JARS
    classes "$1" "$CLIENTS"/dubbo/*.java "$CLIENTS"/java/{Check,Child}.java
}

prepare() {
    need_java
    dubbo_classes "$(jars "$CLIENTS/dubbo/pom.xml")"
}

# With no network interface to choose from, Dubbo stays on the loopback. Its caches below the user's home would outlive the run.
run() {
    local cp
    cp=$(jars "$CLIENTS/dubbo/pom.xml")
    java "${JVM[@]}" -Dlog.level=WARN -Ddubbo.network.interface.ignored=.* -Duser.home="$WORK" -cp "$(dubbo_classes "$cp"):$cp" Calls "$ZK" "$WORK" 2>"$WORK/consumer.log"
}

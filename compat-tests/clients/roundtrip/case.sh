# shellcheck shell=bash
# A data directory goes from the server to Java and back, three times.

software() {
    echo "Java server and tools $(apache_version)"
}

own_servers() { :; }

roundtrip_classes() {
    classes "$(apache_jars)" "$CLIENTS"/roundtrip/*.java "$CLIENTS"/java/{Check,Relay}.java
}

prepare() {
    need_java
    roundtrip_classes
}

run() {
    java "${JVM[@]}" -Dlog.level=OFF -cp "$(roundtrip_classes):$(apache_jars)" Roundtrip "$SERVER" "$ZK" "$WORK"
}

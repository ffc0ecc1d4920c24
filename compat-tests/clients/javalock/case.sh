# shellcheck shell=bash
# The distributed lock of the ZooKeeper recipes, written against the plain Java client.

software() {
    echo "Java client $(apache_version)"
}

lock_classes() {
    classes "$(apache_jars)" "$CLIENTS"/javalock/*.java "$CLIENTS/java/Check.java"
}

prepare() {
    need_java
    lock_classes
}

run() {
    java "${JVM[@]}" -cp "$(lock_classes):$(apache_jars)" Lock "$ZK"
}

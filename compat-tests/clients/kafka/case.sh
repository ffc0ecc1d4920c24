# shellcheck shell=bash
# Apache Kafka with its metadata here: two brokers, of which one is killed.
settings LIMIT=240 SLOW=yes

software() {
    echo "Kafka $(sed -n 's/.*kafka_2.13.*<version>\(.*\)<.version>.*/\1/p' "$CLIENTS/kafka/pom.xml")"
}

kafka_classes() { # JARS
    classes "$1" "$CLIENTS/kafka/KafkaCase.java" "$CLIENTS/java/Check.java"
}

kafka_driver() { # one|three
    local cp
    cp=$(jars "$CLIENTS/kafka/pom.xml")
    java "${JVM[@]}" -Dlog.level=OFF -cp "$CLIENTS/kafka:$(kafka_classes "$cp"):$cp" KafkaCase "$1" "$ZK" "$WORK"
}

prepare() {
    need_java
    kafka_classes "$(jars "$CLIENTS/kafka/pom.xml")"
}

run() {
    kafka_driver one
}

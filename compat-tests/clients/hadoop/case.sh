# shellcheck shell=bash
# Hadoop's fail-over controller: two services of which one is active, through kills, stops and a change of leader.
settings SERVERS=3 LIMIT=400 SLOW=yes

software() {
    echo "Hadoop ZKFailoverController $(sed -n 's/.*<hadoop.version>\(.*\)<.*/\1/p' "$CLIENTS/hadoop/pom.xml")"
}

hadoop_classes() { # JARS
    classes "$1" "$CLIENTS"/hadoop/*.java "$CLIENTS"/java/{Check,Child,Ensemble}.java
}

prepare() {
    need_java
    hadoop_classes "$(jars "$CLIENTS/hadoop/pom.xml")"
}

run() {
    local cp
    cp=$(jars "$CLIENTS/hadoop/pom.xml")
    java "${JVM[@]}" -Dlog.level=INFO -cp "$(hadoop_classes "$cp"):$cp" Pair "$ZK" "$WORK" 2>"$WORK/pair.log"
}

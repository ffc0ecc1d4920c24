# shellcheck shell=bash
# Hadoop's fail-over controller: two services of which one is active, through kills, stops and a change of leader.
settings SERVERS=3 LIMIT=400 SLOW=yes

software() {
    echo "Hadoop ZKFailoverController $(sed -n 's/.*<hadoop.version>\(.*\)<.*/\1/p' "$CLIENTS/hadoop/pom.xml")"
}

hadoop_path() {
    class_path Check.java Child.java Ensemble.java
}

prepare() {
    need_java
    hadoop_path
}

run() {
    local cp
    cp=$(hadoop_path)
    java "${JVM[@]}" -Dlog.level=INFO -cp "$cp" Pair "$ZK" "$WORK" 2>"$WORK/pair.log"
}

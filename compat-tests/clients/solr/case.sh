# shellcheck shell=bash
# Apache Solr as a cloud of two nodes, each a process: a node is killed, both are, and the leader of the ensemble is.
settings SERVERS=3 LIMIT=400 SLOW=yes

software() {
    echo "Solr $(sed -n 's/.*<solr.version>\(.*\)<.*/\1/p' "$CLIENTS/solr/pom.xml")"
}

solr_path() {
    class_path Check.java Child.java Ensemble.java
}

prepare() {
    need_java
    solr_path
}

run() {
    local cp
    cp=$(solr_path)
    java "${JVM[@]}" -Dlog.level=WARN -Dsolr.log.dir="$WORK" -cp "$cp" Cloud "$ZK" "$WORK" "$CLIENTS/solr/configset" 2>"$WORK/client.log"
}

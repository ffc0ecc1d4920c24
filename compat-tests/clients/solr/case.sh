# shellcheck shell=bash
# Apache Solr as a cloud of two nodes, each a process: a node is killed, both are, and the leader of the ensemble is.
settings SERVERS=3 LIMIT=400 SLOW=yes

software() {
    echo "Solr $(sed -n 's/.*<solr.version>\(.*\)<.*/\1/p' "$CLIENTS/solr/pom.xml")"
}

solr_classes() { # JARS
    classes "$1" "$CLIENTS"/solr/*.java "$CLIENTS"/java/{Check,Child,Ensemble}.java
}

prepare() {
    need_java
    solr_classes "$(jars "$CLIENTS/solr/pom.xml")"
}

run() {
    local cp
    cp=$(jars "$CLIENTS/solr/pom.xml")
    java "${JVM[@]}" -Dlog.level=WARN -Dsolr.log.dir="$WORK" -cp "$(solr_classes "$cp"):$cp" Cloud "$ZK" "$WORK" "$CLIENTS/solr/configset" 2>"$WORK/client.log"
}

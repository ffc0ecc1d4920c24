# shellcheck shell=bash
# Apache Storm: two nimbuses, a supervisor and the workers that it launches. A topology works on while the leader of the
# ensemble is killed, and then the nimbus that leads; the other takes over, changes it, and takes a second one.
settings SERVERS=3 LIMIT=600 SLOW=yes

software() {
    echo "Storm $(sed -n 's/.*<storm.version>\(.*\)<.*/\1/p' "$CLIENTS/storm/pom.xml")"
}

storm_path() {
    class_path Check.java Ensemble.java Relay.java
}

# What a distribution of Storm has in lib-worker: less than its daemons need.
worker_jars() {
    jars "$CLIENTS/storm/pom.xml" -Dstorm.module=storm-client
}

prepare() {
    need_java
    storm_path
    worker_jars
}

# A distribution of Storm, as far as its daemons look for it. Maven Central has the jars of it alone.
lay_out() { # HOME
    local daemons workers
    daemons=$(jars "$CLIENTS/storm/pom.xml")
    workers=$(worker_jars)
    mkdir -p "$1"/{conf,extlib,log4j2}
    ln -s "${daemons%/\*}" "$1/lib"
    ln -s "${workers%/\*}" "$1/lib-worker"
    cp "$CLIENTS/storm/log4j2.xml" "$1/log4j2/cluster.xml"
    cp "$CLIENTS/storm/log4j2.xml" "$1/log4j2/worker.xml"
}

run() {
    local cp classes
    cp=$(storm_path)
    classes=${cp%%:*}
    lay_out "$WORK/storm"
    (cd "$classes" && jar --create --file "$WORK/numbers.jar" Numbers*.class)
    java "${JVM[@]}" "-Dlog4j.configurationFile=$CLIENTS/storm/log4j2.xml" "-Dstorm.jar=$WORK/numbers.jar" \
        -cp "$cp" Cluster "$ZK" "$WORK" 2>"$WORK/client.log"
}

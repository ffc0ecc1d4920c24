# shellcheck shell=bash
# Apache Curator and its recipes.

software() {
    echo "Curator $(sed -n 's/.*curator-recipes.*<version>\(.*\)<.version>.*/\1/p' "$CLIENTS/curator/pom.xml")"
}

curator_classes() { # JARS
    classes "$1" "$CLIENTS/curator/Recipes.java" "$CLIENTS/java/Check.java"
}

prepare() {
    need_java
    curator_classes "$(jars "$CLIENTS/curator/pom.xml")"
}

run() {
    local cp
    cp=$(jars "$CLIENTS/curator/pom.xml")
    java "${JVM[@]}" -Dlog.level=OFF -cp "$(curator_classes "$cp"):$cp" Recipes "$ZK"
}

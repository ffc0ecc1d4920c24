# shellcheck shell=bash
# Curator's recipes at work on three servers while the leader is killed, and stopped, and comes back.

settings SERVERS=3 LIMIT=300 SLOW=yes

software() {
    echo "Curator $(sed -n 's/.*curator-recipes.*<version>\(.*\)<.version>.*/\1/p' "$CLIENTS/recipes/pom.xml")"
}

recipes_classes() { # JARS
    classes "$1" "$CLIENTS"/recipes/*.java "$CLIENTS/java/Check.java"
}

prepare() {
    need_java
    recipes_classes "$(jars "$CLIENTS/recipes/pom.xml")"
}

# The program says on a line what is to be done to the leader, and is answered when that is done.
run() {
    local cp line member='' signal='' status=0 program
    cp=$(jars "$CLIENTS/recipes/pom.xml")
    coproc program { exec java "${JVM[@]}" -Dlog.level=OFF -cp "$(recipes_classes "$cp"):$cp" Crashes "$ZK" 2>&1; }
    # shellcheck disable=SC2154
    local from=${program[0]} to=${program[1]} pid=$program_PID
    while read -r line <&"$from"; do
        case $line in
            'leader: '*)
                signal=${line#*: }
                member=$(leader)
                kill_member "$member" "$signal"
                await_members 2
                echo "member $member, which led, got $signal; member $(leader) leads"
                echo ok >&"$to"
                ;;
            'back')
                if [[ $signal == STOP ]]; then kill_member "$member" CONT; else start_member "$member"; fi
                await_members 3
                echo ok >&"$to"
                ;;
            *) echo "$line" ;;
        esac
    done
    wait "$pid" || status=$?
    return $status
}

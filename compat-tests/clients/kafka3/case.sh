# shellcheck shell=bash
# Apache Kafka on three servers, of which the leader is killed while records flow, and comes back: twice.
# shellcheck source-path=SCRIPTDIR/.. source=kafka/case.sh
source "$CLIENTS/kafka/case.sh"
settings SERVERS=3 LIMIT=240 SLOW=yes

run() {
    local line to from driver killed=''
    mkfifo "$WORK/to" "$WORK/from"
    kafka_driver three <"$WORK/to" >"$WORK/from" &
    driver=$!
    exec {to}>"$WORK/to" {from}<"$WORK/from"
    while IFS= read -r line <&"$from"; do
        echo "$line"
        case $line in
            "at work")
                killed=$(leader)
                kill_member "$killed"
                await_members 2
                echo "member $killed led and is dead, member $(leader) leads"
                echo "leader killed" >&"$to"
                ;;
            "at work with two")
                start_member "$killed"
                await_members 3
                echo "member $killed is back"
                echo "member back" >&"$to"
                ;;
        esac
    done
    wait "$driver"
}

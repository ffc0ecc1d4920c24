#!/usr/bin/env bash
#
# Starts, stops and questions a server, with the verbs, variables, outputs and exit codes of ZooKeeper's
# script of the same name, so that unit files, images and probes that call it need no change.
#
#   zkServer.sh [--config DIR] start|start-foreground|stop|restart|status|version|print-cmd [CONF]
#
# The server reads SERVER_JVMFLAGS and JVMFLAGS itself and takes the -D flags out of them. Heap and JMX
# settings have no meaning for it and are accepted.

# A link to this script in a system directory leads to the directory where its files are.
SCRIPT="$(readlink -f "${BASH_SOURCE[0]}" 2>/dev/null || echo "${BASH_SOURCE[0]}")"
ZOOBINDIR="${ZOOBINDIR:-$(cd "$(dirname "$SCRIPT")" && pwd)}"
ZOOPREFIX="$ZOOBINDIR/.."

if [ $# -gt 1 ] && [ "$1" = "--config" ]; then
    ZOOCFGDIR="$2"
    shift 2
fi
if [ -z "$ZOOCFGDIR" ]; then
    if [ -e "$ZOOPREFIX/conf" ]; then
        ZOOCFGDIR="$ZOOPREFIX/conf"
    else
        ZOOCFGDIR="$ZOOPREFIX/etc/zookeeper"
    fi
fi
# For the second and third run of this script that restart makes.
export ZOOCFGDIR

if [ -f "$ZOOCFGDIR/zookeeper-env.sh" ]; then
    . "$ZOOCFGDIR/zookeeper-env.sh"
fi
ZOOCFG_NAME="${ZOOCFG:-zoo.cfg}"
CONFIG="$ZOOCFGDIR/$ZOOCFG_NAME"
if [ -f "$ZOOCFGDIR/java.env" ]; then
    . "$ZOOCFGDIR/java.env"
fi
# The two files above may have set them without exporting them.
export SERVER_JVMFLAGS JVMFLAGS

if [ -z "$JMXDISABLE" ] || [ "$JMXDISABLE" = "false" ]; then
    if [ -z "$JMXPORT" ]; then
        echo "ZooKeeper JMX enabled by default" >&2
    else
        echo "ZooKeeper remote JMX Port set to $JMXPORT" >&2
        echo "ZooKeeper remote JMX authenticate set to ${JMXAUTH:-false}" >&2
        echo "ZooKeeper remote JMX ssl set to ${JMXSSL:-false}" >&2
        echo "ZooKeeper remote JMX log4j set to ${JMXLOG4J:-true}" >&2
        if [ -n "$JMXHOSTNAME" ]; then
            echo "ZooKeeper remote JMX Hostname set to $JMXHOSTNAME" >&2
        fi
    fi
else
    echo "JMX disabled by user request" >&2
fi

# A bare name is a file of the config directory; anything with a directory in it is taken as it is.
if [ -n "$2" ]; then
    case "$2" in
    */*) CONFIG="$2" ;;
    *) CONFIG="$ZOOCFGDIR/$2" ;;
    esac
fi
echo "Using config: $CONFIG" >&2

# The value of a key in a config file: the last line counts, as it does for the server.
value_of() { # KEY FILE
    local key="${1//./\\.}"
    [ -r "$2" ] || return 0
    sed -n -e 's/\r$//' -e "s/^[[:space:]]*${key}[[:space:]]*[=:[:space:]][[:space:]]*//p" "$2" |
        sed -e 's/[[:space:]]*$//' | tail -n 1
}

DATA_DIR="$(value_of dataDir "$CONFIG")"
DATA_LOG_DIR="$(value_of dataLogDir "$CONFIG")"

AUTOCREATE=()
if [ -n "$ZOO_DATADIR_AUTOCREATE_DISABLE" ]; then
    if [ ! -d "$DATA_DIR/version-2" ]; then
        echo "ZooKeeper data directory is missing at $DATA_DIR fix the path or run initialize"
        exit 1
    fi
    if [ -n "$DATA_LOG_DIR" ] && [ ! -d "$DATA_LOG_DIR/version-2" ]; then
        echo "ZooKeeper txnlog directory is missing at $DATA_LOG_DIR fix the path or run initialize"
        exit 1
    fi
    AUTOCREATE=("-Dzookeeper.datadir.autocreate=false")
fi

ZOO_LOG_DIR="${ZOO_LOG_DIR:-$ZOOPREFIX/logs}"
# Without a dataDir the server will not start; its pid then has no better place than beside its output.
ZOOPIDFILE="${ZOOPIDFILE:-${DATA_DIR:-$ZOO_LOG_DIR}/zookeeper_server.pid}"
DAEMON_OUT="$ZOO_LOG_DIR/zookeeper-$USER-server-$HOSTNAME.out"

make_directories() {
    [ -d "$(dirname "$ZOOPIDFILE")" ] || mkdir -p "$(dirname "$ZOOPIDFILE")"
    [ -w "$ZOO_LOG_DIR" ] || mkdir -p "$ZOO_LOG_DIR"
}

# Sets ZOOID to the server's binary: the one that is named, one that is installed, or last what scripts/run has built.
find_zooid() {
    local candidate
    for candidate in "$ZOOID_BIN" "$ZOOPREFIX/bin/zooid" "$ZOOPREFIX/target/release/zooid" \
        "${CARGO_TARGET_DIR:+$CARGO_TARGET_DIR/release/zooid}" "$(type -P zooid)" \
        "$HOME/.cache/zooid/target/release/zooid"; do
        if [ -n "$candidate" ] && [ -f "$candidate" ] && [ -x "$candidate" ]; then
            ZOOID="$candidate"
            return
        fi
    done
    echo "zooid was not found: set ZOOID_BIN to the binary, or put it into $ZOOPREFIX/bin or on the PATH" >&2
    exit 1
}

start() {
    echo -n "Starting zookeeper ... "
    if [ -f "$ZOOPIDFILE" ] && kill -0 "$(cat "$ZOOPIDFILE")" 2>/dev/null; then
        echo "already running as process $(cat "$ZOOPIDFILE")."
        exit 1
    fi
    find_zooid
    make_directories
    if ! : >"$DAEMON_OUT"; then
        echo "SERVER DID NOT START"
        exit 1
    fi
    nohup "$ZOOID" server "${AUTOCREATE[@]}" "$CONFIG" >"$DAEMON_OUT" 2>&1 </dev/null &
    local pid=$!
    if ! echo -n "$pid" >"$ZOOPIDFILE"; then
        echo "FAILED TO WRITE PID"
        exit 1
    fi
    sleep 1
    # Not `kill -0`: it also finds a process that has ended and was not waited for.
    if [ -n "$(jobs -r)" ]; then
        echo "STARTED"
    else
        echo "FAILED TO START"
        exit 1
    fi
}

start_foreground() {
    find_zooid
    make_directories
    if [ -n "$ZOO_NOEXEC" ]; then
        "$ZOOID" server "${AUTOCREATE[@]}" "$CONFIG"
    else
        exec "$ZOOID" server "${AUTOCREATE[@]}" "$CONFIG"
    fi
}

print_cmd() {
    find_zooid
    echo "\"$ZOOID\" server ${AUTOCREATE[*]} \"$CONFIG\" > \"$DAEMON_OUT\" 2>&1 < /dev/null"
}

# Waits a second and does not look whether the server is gone, and the exit code is 0 whatever happened:
# callers count on both.
stop() {
    echo -n "Stopping zookeeper ... "
    if [ ! -f "$ZOOPIDFILE" ]; then
        echo "no zookeeper to stop (could not find file $ZOOPIDFILE)"
    else
        kill "$(cat "$ZOOPIDFILE")"
        rm "$ZOOPIDFILE"
        sleep 1
        echo STOPPED
    fi
    exit 0
}

# What follows the last `;` of the own server line in a file, if there is one.
client_part() { # MYID FILE
    value_of "server.$1" "$2" | sed -n 's/.*;//p'
}

# Sets PORT, ADDRESS and SSL from the config.
find_client_port() {
    SSL="false"
    ADDRESS="$(value_of clientPortAddress "$CONFIG")"
    ADDRESS="${ADDRESS:-localhost}"
    PORT="$(value_of clientPort "$CONFIG")"
    [[ "$PORT" =~ ^[0-9]+$ ]] && return
    PORT=""
    local myid own
    myid="$(cat "$DATA_DIR/myid" 2>/dev/null)"
    if ! [[ "$myid" =~ ^[0-9]+$ ]]; then
        echo "myid could not be determined, will not able to locate clientPort in the server configs."
    else
        own="$(client_part "$myid" "$CONFIG")"
        if [ -z "$own" ]; then
            echo "Client port not found in static config file. Looking in dynamic config file."
            own="$(client_part "$myid" "$(value_of dynamicConfigFile "$CONFIG")")"
        fi
        if [ -z "$own" ]; then
            echo "Client port not found in the server configs"
        else
            [[ "$own" == *:* ]] && ADDRESS="${own%:*}"
            PORT="${own##*:}"
        fi
    fi
    [ -n "$PORT" ] && return
    echo "Client port not found. Looking for secureClientPort in the static config."
    PORT="$(value_of secureClientPort "$CONFIG")"
    [ -n "$PORT" ] && SSL="true"
    if [ -z "$PORT" ]; then
        echo "Unable to find either secure or unsecure client port in any configs. Terminating."
        exit 1
    fi
}

# The answer to srvr, through bash's own sockets: neither java nor nc need be there. A connection that is
# refused, hangs or is silent gives nothing.
ask_srvr() { # HOST PORT
    local host="${1#[}"
    host="${host%]}"
    local ask='exec 3<>"/dev/tcp/$1/$2" && printf srvr >&3 && cat <&3'
    if type -P timeout >/dev/null; then
        timeout 5 bash -c "$ask" ask "$host" "$2" 2>/dev/null
    else
        bash -c "$ask" ask "$host" "$2" 2>/dev/null
    fi
}

status() {
    find_client_port
    echo "Client port found: $PORT. Client address: $ADDRESS. Client SSL: $SSL."
    local mode
    mode="$(ask_srvr "$ADDRESS" "$PORT" | grep Mode)"
    if [ -n "$mode" ]; then
        echo "$mode"
        exit 0
    fi
    if [ "$SSL" = "true" ]; then
        echo "Note: only a secure port is configured, and this script cannot ask a server through TLS."
    fi
    echo "Error contacting service. It is probably not running."
    exit 1
}

case "$1" in
start) start ;;
start-foreground) start_foreground ;;
print-cmd) print_cmd ;;
stop) stop ;;
restart)
    shift
    "$SCRIPT" stop "$@"
    sleep 3
    "$SCRIPT" start "$@"
    ;;
status) status ;;
# The version that clients and tools take this server for.
version) echo "Apache ZooKeeper, version 3.9.5 2026-02-11 20:15 UTC" ;;
*) echo "Usage: $0 [--config <conf-dir>] {start|start-foreground|stop|version|restart|status|print-cmd}" >&2 ;;
esac

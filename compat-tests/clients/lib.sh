# shellcheck shell=bash
# What the cases share; sourced by scripts/compat and, through it, around every case.sh.
#
# A case.sh defines: software (prints name and version of the client), prepare (installs and compiles,
# may use the network when the cache is cold), run (the test; its exit code is the verdict). It finds the
# server at $ZK = 127.0.0.1:$ZK_PORT and may write below $WORK. It may define:
#   settings LIMIT=SECONDS   what `run` may take (150)
#   settings SERVERS=3       an ensemble: $ZK has all of them, and the functions at the end of this file are its levers
#   settings SLOW=yes        runs only when named, or with `all`
# and say with `counted` how much it has run.

CACHE=${ZOOID_COMPAT_CACHE:-$HOME/.cache/zooid/compat}
mkdir -p "$CACHE"
CACHE=$(realpath "$CACHE")
export CACHE ZOOID_COMPAT_CACHE=$CACHE

# Short-lived JVMs on a small machine: no second compiler, no concurrent collector.
# shellcheck disable=SC2034
JVM=(-Xmx256m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Xshare:auto
    "-Dlogback.configurationFile=$CLIENTS/java/logback.xml")

die() {
    echo "compat: $*" >&2
    exit 1
}

# A tool, or the Debian package that brings it.
need() { # TOOL PACKAGE
    command -v "$1" >/dev/null && return
    apt_install "$2"
    command -v "$1" >/dev/null || die "$1 is missing, and the package $2 does not bring it"
}

apt_install() { # PACKAGE...
    local sudo=
    command -v apt-get >/dev/null || die "cannot install $*: there is no apt-get here"
    ((EUID == 0)) || sudo=sudo
    # Cases that run side by side take turns: apt-get does not wait for another to end.
    (
        flock 9
        $sudo apt-get update -qq
        DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends "$@"
    ) 9>"$CACHE/apt.lock" || die "cannot install $*"
}

need_java() {
    need javac openjdk-17-jdk-headless
}

key() { # a short hash of what comes in
    sha1sum | cut -c1-12
}

# Fills a directory of the cache once. It gets its name when it is full, so neither a failure nor another run
# beside this one leaves half of it. The name is on stdout; what the command says goes to stderr.
once() { # DIRECTORY COMMAND... (the command gets the directory to fill as its last argument)
    local dir=$1 part=$1.$$
    shift
    if [[ ! -d $dir ]]; then
        mkdir -p "$part"
        if "$@" "$part" >&2; then mv -T "$part" "$dir" 2>/dev/null || true; fi
        rm -rf "$part"
        [[ -d $dir ]] || return
    fi
    echo "$dir"
}

# The class path of a pom, copied into the cache. An argument -Dx=y reaches Maven and the name.
jars() { # POM [-Dx=y]
    local dir
    dir=$(once "$CACHE/jars/$(cat "$1" - <<<"${2-}" | key)" copy_jars "$1" "${2--B}") || return
    echo "$dir/*"
}
copy_jars() { # POM OPTION DIRECTORY
    need mvn maven
    mvn -B -q -f "$1" "$2" org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies -DincludeScope=runtime "-DoutputDirectory=$3" \
        -Dmdep.useBaseVersion=true
}

# Compiled classes for a class path, as a directory of the cache.
classes() { # CLASSPATH SOURCE...
    local cp=$1
    shift
    once "$CACHE/classes/$(cat "$@" - <<<"$cp" | key)" compile "$cp" "$@"
}
compile() { # CLASSPATH SOURCE... DIRECTORY
    local dir=${*: -1}
    javac -Xlint:all,-processing,-classfile -cp "$1" -d "$dir" "${@:2:$#-2}"
}

# The class path of the current case: its own sources, those named of clients/java, and the jars of its pom.
class_path() { # SHARED_SOURCE...
    local cp own
    cp=$(jars "$CLIENTS/$CASE/pom.xml") || return
    own=$(classes "$cp" "$CLIENTS/$CASE"/*.java "${@/#/$CLIENTS/java/}") || return
    echo "$own:$cp"
}

# The packages of the case's requirements.txt, as a directory of the cache.
python_packages() {
    once "$CACHE/$CASE/$(key <"$CLIENTS/$CASE/requirements.txt")" install_python_packages
}
install_python_packages() { # DIRECTORY
    need python3 python3
    python3 -m pip --version >/dev/null || apt_install python3-pip
    python3 -m pip install -q --disable-pip-version-check --root-user-action=ignore \
        -r "$CLIENTS/$CASE/requirements.txt" --target "$1"
}

# Apache ZooKeeper of the version that we replace: server, tools and client.
apache_version() {
    sed -n 's/.*<zookeeper.version>\(.*\)<.*/\1/p' "$CLIENTS/java/zookeeper.xml"
}
apache_jars() {
    jars "$CLIENTS/java/zookeeper.xml"
}

zooid_bin() {
    local candidate
    if [[ -n ${ZOOID_BIN-} ]]; then
        [[ -x $ZOOID_BIN ]] || die "ZOOID_BIN is $ZOOID_BIN, which cannot be run"
        echo "$ZOOID_BIN"
        return
    fi
    for candidate in "${CARGO_TARGET_DIR-}/release/zooid" "$HOME/.cache/zooid/target/release/zooid" \
        "$CLIENTS/../../target/release/zooid"; do
        if [[ -x $candidate ]]; then
            echo "$candidate"
            return
        fi
    done
    die "no zooid binary: set ZOOID_BIN or run cargo build --release"
}

describe_server() {
    if [[ $SERVER == java ]]; then
        echo "Apache ZooKeeper $(apache_version)"
    else
        local bin
        bin=$(zooid_bin) || return
        echo "$("$bin" --version) ($bin)"
    fi
}

free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# Short ticks: sessions may be as short as a second, so that waiting for an expiry does not take long.
write_config() { # FILE DATADIR PORT
    mkdir -p "$2"
    cat >"$1" <<CFG
tickTime=500
maxSessionTimeout=60000
dataDir=$2
clientPort=$3
clientPortAddress=127.0.0.1
maxClientCnxns=0
admin.enableServer=false
4lw.commands.whitelist=*
extendedTypesEnabled=true
CFG
}

settings() { # NAME=VALUE...
    declare -gx "$@"
}

# How many tests, commands or the like a case has run, and how many of them passed: for its line in the table.
counted() { # RUN PASSED
    echo "$1 / $2" >"$WORK/counts"
}

# Waits until the server serves (a listening socket is not enough), and gives up early if it has died.
await_server() { # PORT PID
    local answer end=$((SECONDS + 30))
    while ((SECONDS < end)); do
        kill -0 "$2" 2>/dev/null || return 1
        # A refused connection ends the subshell; the answer of a server that serves has its mode in it.
        answer=$( (exec 3<>"/dev/tcp/127.0.0.1/$1" && echo srvr >&3 && timeout 0.5 cat <&3) 2>/dev/null) || true
        [[ $answer == *Mode:* ]] && return
        sleep 0.05
    done
    return 1
}

# ---- ensembles ----
#
# Member N lives in $WORK/N: zoo.cfg, data, log, pid, and its client port in a file of that name.

write_members() { # COUNT
    local member lines='' port quorum election
    for ((member = 1; member <= $1; member++)); do
        quorum=$(free_port) election=$(free_port)
        lines+="server.$member=127.0.0.1:$quorum:$election"$'\n'
    done
    for ((member = 1; member <= $1; member++)); do
        mkdir -p "$WORK/$member"
        port=$(free_port)
        echo "$port" >"$WORK/$member/port"
        write_config "$WORK/$member/zoo.cfg" "$WORK/$member/data" "$port"
        printf 'initLimit=20\nsyncLimit=10\n%s' "$lines" >>"$WORK/$member/zoo.cfg"
        if [[ -f $CLIENTS/$CASE/zoo.cfg ]]; then cat "$CLIENTS/$CASE/zoo.cfg" >>"$WORK/$member/zoo.cfg"; fi
        echo "$member" >"$WORK/$member/data/myid"
    done
}

connect_string() {
    local port all=''
    for port in "$WORK"/[0-9]*/port; do all+=",127.0.0.1:$(cat "$port")"; done
    echo "${all:1}"
}

start_member() { # MEMBER
    setsid "$CLIENTS/server" "$SERVER" "$WORK/$1/zoo.cfg" >>"$WORK/$1/log" 2>&1 </dev/null &
    echo $! >"$WORK/$1/pid"
    disown
}

kill_member() { # MEMBER [SIGNAL]
    kill "-${2:-KILL}" "$(cat "$WORK/$1/pid")"
    # It is meant to be gone, until it is started again.
    [[ ${2:-KILL} != KILL ]] || rm "$WORK/$1/pid"
}

# What a member says of itself: leader, follower, or nothing.
mode_of() { # MEMBER
    local port
    port=$(cat "$WORK/$1/port")
    { (exec 3<>"/dev/tcp/127.0.0.1/$port" && echo srvr >&3 && timeout 1 cat <&3) 2>/dev/null || true; } |
        sed -n 's/^Mode: //p'
}

leader() {
    local dir
    for dir in "$WORK"/[0-9]*; do
        if [[ $(mode_of "${dir##*/}") == leader ]]; then
            echo "${dir##*/}"
            return
        fi
    done
    return 1
}

# Until one of the members leads and so many follow.
await_members() { # SERVING
    local dir end=$((SECONDS + 60)) modes
    while ((SECONDS < end)); do
        modes=$(for dir in "$WORK"/[0-9]*; do mode_of "${dir##*/}"; done)
        if [[ $modes == *leader* ]] && (($(wc -w <<<"$modes") >= $1)); then return; fi
        sleep 0.1
    done
    return 1
}

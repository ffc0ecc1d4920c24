# shellcheck shell=bash
# The C client library and its command line tool, as Debian has them.

software() {
    echo "libzookeeper-mt $(dpkg-query -W -f '${Version}' libzookeeper-mt-dev)"
}

prepare() {
    need gcc gcc
    # dpkg-query says "installed" of what is there; apt-get would need the network to say so.
    if ! dpkg-query -W -f '${db:Status-Status}\n' libzookeeper-mt-dev zookeeper-bin libc6-dev 2>&1 |
        awk '$0 != "installed" { missing = 1 } END { exit missing }'; then
        apt_install libzookeeper-mt-dev zookeeper-bin libc6-dev
    fi
    program
}

program() {
    once "$CACHE/cclient/$(key <"$CLIENTS/cclient/test.c")" build
}
build() { # DIRECTORY
    gcc -std=gnu11 -O1 -Wall -Wextra -DTHREADED -o "$1/test" "$CLIENTS/cclient/test.c" -lzookeeper_mt -lpthread
}

run() {
    "$(program)/test" "$ZK"
    cli 'create /cli'
    cli 'get /cli'
    echo "ok cli_mt"
}

cli() { # COMMAND
    timeout 20 /usr/lib/zookeeper/bin/cli_mt "$ZK" "cmd:$1" >"$WORK/cli" 2>&1 || die "cli_mt $1: exit $?"
    grep 'rc = 0' "$WORK/cli" || die "cli_mt $1: $(tail -n 3 "$WORK/cli")"
}

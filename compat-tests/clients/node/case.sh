# shellcheck shell=bash
# The native Node client: the C library, compiled when it is installed.

software() {
    echo "node zookeeper $(sed -n 's/.*"zookeeper": "\(.*\)".*/\1/p' "$CLIENTS/node/package.json"), node $(node --version)"
}

modules() {
    once "$CACHE/node/$(cat "$CLIENTS/node/package.json" - <<<"$(node --version)" | key)" install
}
install() { # DIRECTORY
    need npm npm
    need make make
    need g++ g++
    cp "$CLIENTS/node/package.json" "$1"
    # Headers beside the node that runs, so that none need to be downloaded.
    local prefix
    prefix=$(dirname "$(dirname "$(readlink -f "$(command -v node)")")")
    if [[ -e $prefix/include/node/node.h ]]; then export npm_config_nodedir=$prefix; fi
    cd "$1" && npm install --no-audit --no-fund --foreground-scripts &&
        node -e 'require("zookeeper")' || return
    # What only the build needs.
    rm -rf node_modules/zookeeper/{build/Release/obj.target,deps/zookeeper-client-c,prebuilds}
}

prepare() {
    need node nodejs
    modules
}

run() {
    NODE_PATH=$(modules)/node_modules node "$CLIENTS/node/test.js" "$ZK"
}

# shellcheck shell=bash
# The Go client.

software() {
    echo "go-zookeeper $(sed -n 's/^require .* v//p' "$CLIENTS/go/go.mod")"
}

program() {
    once "$CACHE/go/$(cat "$CLIENTS"/go/{go.mod,go.sum,main.go} | key)" build
}
build() { # DIRECTORY
    need go golang-go
    cd "$CLIENTS/go" && go build -o "$1/test" .
}

prepare() {
    program
}

run() {
    "$(program)/test" "$ZK"
}

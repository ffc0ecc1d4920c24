# shellcheck shell=bash
# The Python client.

software() {
    PYTHONPATH=$(kazoo_packages) python3 -c 'import kazoo.version as v; print("kazoo", v.__version__)'
}

kazoo_packages() {
    once "$CACHE/kazoo/$(key <"$CLIENTS/kazoo/requirements.txt")" install_kazoo
}
install_kazoo() { # DIRECTORY
    need python3 python3
    python3 -m pip --version >/dev/null || apt_install python3-pip
    python3 -m pip install -q --disable-pip-version-check --root-user-action=ignore \
        -r "$CLIENTS/kazoo/requirements.txt" --target "$1"
}

prepare() {
    kazoo_packages
}

run() {
    PYTHONPATH=$(kazoo_packages) python3 "$CLIENTS/kazoo/test.py" "$ZK"
}

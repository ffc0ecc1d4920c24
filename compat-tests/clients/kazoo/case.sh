# shellcheck shell=bash
# The Python client.

software() {
    PYTHONPATH=$(python_packages) python3 -c 'import kazoo.version as v; print("kazoo", v.__version__)'
}

prepare() {
    python_packages
}

run() {
    PYTHONPATH=$(python_packages) python3 "$CLIENTS/kazoo/test.py" "$ZK"
}

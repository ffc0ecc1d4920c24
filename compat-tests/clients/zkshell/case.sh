# shellcheck shell=bash
# zk-shell, every command it has; its output must be what it printed against Java (expected.txt, made by
# scripts/compat --server java --record zkshell). Then as people have it on a terminal (terminal.py).
#
# Member 1 is the one it speaks to: it never leads. No command speaks to anything outside the machine; the option
# --tunnel does (ssh), and is left out for that.
settings SERVERS=3

software() {
    PYTHONPATH=$(python_path) python3 -c 'import zk_shell; print("zk-shell", zk_shell.__version__)'
}

python_path() {
    echo "$(python_packages):$CLIENTS/zkshell/site"
}

prepare() {
    python_packages
}

run() {
    local as=() known
    # `edit` refuses to work for root: so nobody it is, who may touch what root may.
    ((EUID != 0)) || as=(setpriv --reuid=65534 --inh-caps=+dac_override --ambient-caps=+dac_override)
    # It keeps its settings and history at home.
    export HOME=$WORK TZ=UTC EDITOR=$CLIENTS/zkshell/editor.sh PYTHONDONTWRITEBYTECODE=1 PYTHONPATH
    PYTHONPATH=$(python_path)
    "${as[@]}" python3 "$CLIENTS/zkshell/script.py" "$ZK" "$CLIENTS/zkshell/commands.txt" "$WORK" |
        tee "$WORK/ran"
    if [[ -n $RECORD ]]; then cp "$WORK/output" "$CLIENTS/zkshell/expected.txt"; fi
    diff -u "$CLIENTS/zkshell/expected.txt" "$WORK/output"
    python3 "$CLIENTS/zkshell/terminal.py" "$ZK" "$(python_packages)/bin/zk-shell"
    # What script.py does not run (and it fails when that is more than what belongs to a terminal), terminal.py has.
    known=$(sed -n 's/^[0-9]* commands of \([0-9]*\) on .*/\1/p' "$WORK/ran")
    counted "$known" "$known"
}

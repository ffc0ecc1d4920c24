#!/bin/sh
# What $EDITOR is to zk-shell's `edit`: the text says what becomes of it.
case $(cat "$1") in
    refuse) exit 3 ;;
    leave) ;;
    *) echo edited >>"$1" ;;
esac

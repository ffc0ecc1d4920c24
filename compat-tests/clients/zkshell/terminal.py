"""zk-shell as people sit before it, on a terminal: prompt, completion, history, leaving; and as scripts call it."""

import os
import pty
import re
import select
import subprocess
import sys
import time

DEADLINE = 20


class Terminal:
    def __init__(self, *command):
        self.ended = None
        self.text = ""
        self.child, self.fd = pty.fork()
        if self.child == 0:
            # A dumb terminal has no colours, and lines that are longer than any here do not wrap.
            os.environ.update(TERM="dumb", COLUMNS="1000", LINES="50")
            os.execvp(command[0], command)

    def send(self, keys):
        os.write(self.fd, keys.encode())

    def until(self, pattern):
        """What was shown up to what matches, which is shown by the deadline."""
        end = time.monotonic() + DEADLINE
        while not (found := re.search(pattern, self.text)):
            left = end - time.monotonic()
            if left <= 0 or not self.more(left):
                raise AssertionError(f"waited for {pattern!r}, seen {self.text!r}")
        before, self.text = self.text[:found.start()], self.text[found.end():]
        return before

    def more(self, seconds):
        if not select.select([self.fd], [], [], seconds)[0]:
            return False
        try:
            data = os.read(self.fd, 65536)
        except OSError:  # EIO: the other end is closed
            return False
        self.text += data.decode().replace("\r\n", "\n")
        return bool(data)

    def leave(self, keys):
        self.send(keys)
        while self.more(DEADLINE):
            pass
        return os.waitstatus_to_exitcode(os.waitpid(self.child, 0)[1])


def connected(hosts):
    return rf"\(CONNECTED \[{re.escape(hosts)}\]\) (\S+)> $"


class Session(Terminal):
    """Asks and hears: a line goes in, and what is shown between its echo and the next prompt comes out."""

    def __init__(self, program, hosts):
        super().__init__(*program, hosts)
        self.prompt = connected(hosts)
        self.until(self.prompt)

    def ask(self, line, *keys):
        self.send(line + "".join(keys) + "\n")
        shown = self.until(self.prompt)
        return shown.split("\n", 1)[1].rstrip("\n") if "\n" in shown else shown


def same(got, want):
    if got != want:
        raise AssertionError(f"got {got!r}, expected {want!r}")


def on_a_terminal(program, hosts):
    first = hosts.split(",")[0]
    shell = Session(program, first)
    same(shell.ask("create /terminal 'seen'"), "")
    same(shell.ask("create /terminal/only child"), "")
    same(shell.ask("get /terminal"), "seen")
    same(shell.ask("get /termi\t/o\t"), "child")  # two completions, for which the server is asked
    same(shell.ask("!!"), "child")
    same(shell.ask("pwd"), "/")
    same(shell.ask("$?"), "/")
    same(shell.ask("history /terminal/"), "create /terminal/only child\nget /terminal/only")
    same(shell.ask("cd /terminal"), "")
    same(shell.ask("ls"), "only")
    shell.send("\x03")
    # One that comes between the prompt and the reading of a line is lost.
    while not shell.more(2):
        shell.send("\x03")
    shell.until(r"Exit\? \(y\|n\) ")
    shell.send("n\n")
    shell.until(shell.prompt)
    same(shell.ask("ls /terminal"), "only")
    shell.send("disconnect\n")
    shell.until(r"\(DISCONNECTED\) /> ")
    shell.send(f"connect {hosts}\n")
    shell.prompt = connected(hosts)
    shell.until(shell.prompt)
    same(shell.ask("rmr /terminal"), "")
    same(shell.leave("\x04"), 0)
    print("ok terminal: completion, history, !!, $?, interrupt, connect, EOF")

    shell = Session(program, first)
    same(shell.ask("history get"), "get /terminal\nget /terminal/only")
    same(shell.leave("exit\n"), 0)
    print("ok terminal: the next session knows the history, exit")


def from_scripts(program, hosts):
    for options, standard_input, code, output in [
        (["--run-once", "create /once 'upon a time'", hosts], "", 0, ""),
        (["--run-once", "get /once", hosts], "", 0, "upon a time\n"),
        (["--readonly", "--run-once", "get /once", hosts], "", 0, "upon a time\n"),
        (["--run-once", "get /none", hosts], "", 1, "Path /none doesn't exist\n"),
        (["--run-from-stdin", hosts], "rm /once\nexists /once\n", 0, "Path /once doesn't exist\n"),
    ]:
        done = subprocess.run(program + options, input=standard_input, capture_output=True, text=True,
                              timeout=DEADLINE, check=False)
        same((done.returncode, done.stdout, done.stderr), (code, output, ""))
    print("ok as scripts call it")


def main(servers, program):
    program = [sys.executable, program]
    on_a_terminal(program, servers)
    from_scripts(program, servers)


main(*sys.argv[1:])

"""Feeds commands.txt to zk-shell, as `zk-shell --run-from-stdin` takes it, and writes down what it says.

The shell asks for its next line when it is done with the one before; that is when what it printed belongs to that
line. What other threads print are watches that fired. It comes before or after the reply as it happens, so it is
kept apart and put behind the output of its command, which says how many events it expects: `@2 rm /a`.
"""

import io
import re
import sys
import threading

from kazoo.handlers.threading import SequentialThreadingHandler
from zk_shell.cli import CLI, CLIParams
from zk_shell.shell import Shell

from mask import Mask, sorted_lines, sorted_tree

DEADLINE = 10


class Feed:
    """Standard input of the shell, its output, and the order between them."""

    def __init__(self, lines, mask, out):
        self.lines, self.mask, self.out = lines, mask, out
        self.said, self.events = io.StringIO(), []
        self.main = threading.get_ident()
        self.changed = threading.Condition()
        self.seen = self.expected = 0
        self.command, self.sort = "", str
        self.session = ""
        self.ran = {}

    # -- standard output

    def write(self, text):
        with self.changed:
            if threading.get_ident() == self.main:
                self.said.write(text)
            else:
                self.events.append(text)

    def flush(self):
        pass

    # -- standard input

    def readlines(self):
        while self.lines:
            command, self.sort, self.expected = self.lines.pop(0), str, 0
            if command.startswith("~ "):
                command, self.sort = command[2:], sorted_lines
            elif command.startswith("tree"):
                self.sort = sorted_tree
            elif command.startswith("@"):
                count, command = command[1:].split(" ", 1)
                self.expected = int(count)
            word = command.split()[0]
            self.ran[word] = self.ran.get(word, 0) + 1
            self.command = command.replace("$SESSION", self.session)
            yield self.command + "\n"
            self.settle()

    def readline(self):
        """An answer to a question that the shell asks."""
        answer = self.lines.pop(0)
        if not answer.startswith("< "):
            raise EOFError("the shell asks, and no answer is there")
        self.said.write(answer[2:] + "\n")
        return answer[2:] + "\n"

    # -- order

    def settle(self):
        with self.changed:
            if not self.changed.wait_for(lambda: self.seen >= self.expected, DEADLINE):
                self.events.append(f"expected {self.expected} events, got {self.seen}\n")
            said, events = self.said.getvalue(), "".join(self.events)
            self.said.seek(0)
            self.said.truncate()
            self.events.clear()
            self.seen = 0
        session = re.search("^sessionid=(.*)", said, re.MULTILINE)
        self.session = session[1] if session else self.session
        self.out.write(f"> {self.mask.text(self.command)}\n")
        self.out.write(self.sort(self.mask.said(self.command, said)) + self.mask.text(events))
        self.out.flush()

    def watch_callbacks(self):
        """An event is over when its callback is: after it printed, it may set the next watch."""
        feed, dispatch = self, SequentialThreadingHandler.dispatch_callback

        def counted(handler, callback):
            def run(*args):
                before = len(feed.events)
                try:
                    return callback.func(*args)
                finally:
                    with feed.changed:
                        feed.seen += len(feed.events) > before
                        feed.changed.notify_all()

            return dispatch(handler, callback._replace(func=run))

        SequentialThreadingHandler.dispatch_callback = counted


def main(servers, commands, work):
    mask = Mask(servers, work)
    names = {
        "$ALL": servers,
        **{f"${n}": address for n, address in enumerate(servers.split(","), 1)},
        "$WORK": work,
        # A path as zk-shell wants it in such an address.
        "$JSON": (work + "/file.json").replace("/", "!"),
    }
    lines = []
    with open(commands, encoding="utf-8") as source:
        for line in source.read().splitlines():
            if line and not line.startswith("#"):
                for name, value in names.items():
                    line = line.replace(name, value)
                lines.append(line)
    with open(work + "/file", "w", encoding="utf-8") as source:
        source.write("of a file")
    with open(work + "/output", "w", encoding="utf-8") as out:
        feed = Feed(lines, mask, out)
        feed.watch_callbacks()
        real = sys.stdout
        sys.stdin, sys.stdout = feed, feed
        try:
            CLI()(CLIParams(10.0, "", True, True, [names["$1"]], False, None, False))
        except SystemExit as end:
            feed.write(f"[exit {end.code}]\n")
        finally:
            feed.settle()
            sys.stdout = real
    known = {name[3:] for name in dir(Shell) if name.startswith("do_")} | {"!!", "$?"}
    # These belong to a terminal.
    left = sorted(known - feed.ran.keys() - {"!!", "EOF", "exit"})
    print(f"{len(feed.ran.keys() & known)} commands of {len(known)} on {sum(feed.ran.values())} lines")
    if left:
        sys.exit("never ran: " + " ".join(left))


main(*sys.argv[1:])

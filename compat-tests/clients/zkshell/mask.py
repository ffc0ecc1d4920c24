"""What differs from run to run in the output of zk-shell, and how it is made equal."""

import os
import re

LEFT_OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../../tests/mntr-left-out.md")


class Mask:
    def __init__(self, servers, work):
        # As wide as what it stands for, because there are tables.
        self.ports = {address.split(":")[1]: f"port{n}" for n, address in enumerate(servers.split(","), 1)}
        self.work = work
        with open(LEFT_OUT, encoding="utf-8") as table:
            self.left_out = set(re.findall(r"^\| `(\w+)`", table.read(), re.MULTILINE))

    def said(self, command, text):
        """What a command said."""
        word = command.split()[0]
        if word in ("help", "man"):
            # The texts are the shell's own.
            return f"[{len(text.splitlines())} lines]\n"
        text = self.text(self.metrics(text) if command == "mntr" else text)
        if word == "dump":
            return dump(text)
        if word == "chkzk":
            # Columns come in the order of the ports, and one of two members leads.
            return re.sub(r"follower|  leader", "    role", re.sub(r"port\d", "portN", text))
        return text

    def text(self, text):
        text = text.replace(self.work, "WORK").replace(self.work.replace("/", "!"), "WORK")
        text = text.replace(os.environ["EDITOR"], "EDITOR").replace("\x1b", "^[")
        for port, name in self.ports.items():
            text = re.sub(rf"(?<=[: ]){port}\b", name, text)
        text = re.sub(r"127\.0\.0\.1:\d{5}:\d{5}:", "127.0.0.1:quorum:election:", text)
        text = re.sub(r"((?:127\.0\.0\.1|localhost):|\('127\.0\.0\.1', )\d{5}\b", r"\1client", text)
        text = re.sub(r"\b[A-Z][a-z]{2} [A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d (?!1970)\d{4}", "TIME", text)
        text = re.sub(r"(?<=[cm]time=)\d{13}", "TIME", text)
        text = re.sub(r"(?i)(?<=took )\d+\.\d+", "TIME", text)
        text = re.sub(r"0x[123][0-9a-f]{14}\b", "0xSESSION", text)
        # How often they elected a leader is not the matter here; what came since is.
        text = re.sub(r"(0x0*|version=)[1-9](00000[0-9a-f]{3})\b", r"\1E\2", text)
        text = re.sub(r"\b3\.9\.5-\S+, built on .*", "VERSION", text)
        # Counts with the pings in them, and times.
        return re.sub(r"\b(recved|sent|est|lresp|llat|minlat|avglat|maxlat)=\d+", r"\1=N", text)

    def metrics(self, said):
        """The names, without those that only Java has; which namespaces there are is not for this place."""
        lines = []
        for line in said.splitlines():
            name = line.split("\t")[0]
            plain = re.sub(r"^zk_((avg|min|max|cnt|sum|p\d+)_)?", "", name)
            if plain not in self.left_out and not plain.endswith("_per_namespace"):
                lines.append(name + "\n")
        return "".join(lines)


def dump(said):
    """In how many buckets of time connections are is chance; within one they come in the order of a hash table."""
    said = re.sub(r"(?m)^\d+ expire at .*\n", "", said)
    said = re.sub(r"(Sets) \(\d+\)", r"\1 (N)", said)
    return re.sub(r"(?m)(^\t.*\n)+", lambda lines: sorted_lines(lines[0]), said)


def sorted_lines(text):
    return "".join(sorted(text.splitlines(keepends=True)))


def sorted_tree(text):
    """Children come in the order of a hash table: into that of their names, each with what is below it."""
    keyed, path = [], []
    for line in text.splitlines(keepends=True):
        level = line.count("│   ")
        path = path[:level] + [line[4 * level:]]
        keyed.append((path if line.startswith(("├", "│")) else [], line))
    return "".join(line for _, line in sorted(keyed))

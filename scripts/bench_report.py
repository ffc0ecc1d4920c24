"""The report: what was to be reached and what was, the figures, and the plots."""

import json
import statistics
import time
from collections import namedtuple

from bench_cases import CLIENTS, GROUPS, LIMITS, LOADS, THREE, short
from bench_plot import plot
from bench_servers import JAVA_VERSION

NAMES = {"java": f"ZooKeeper {JAVA_VERSION}", "zooid": "zooid", "echo": "bare echo", "bare": "bare server"}
SHORT = {"java": "Java", "zooid": "zooid", "echo": "echo", "bare": "bare"}


def to_java(results, case, figure):
    return results.values(case, figure, "java")


def to_echo(results, case, figure):
    return results.values(case, figure, "echo")


def to_one_hop(results, _, figure):
    return hops(results, figure, 1)


def to_two_hops(results, _, figure):
    return hops(results, figure, 2)


def hops(results, figure, count):
    """So many round trips to the echo server and one fdatasync."""
    echo, sync = results.values("set-1x1", figure, "echo"), results.values("fdatasync", figure, "machine")
    return [count * trip + disk for trip, disk in zip(echo, sync)]


TO = {
    to_java: "Java",
    to_echo: "bare echo",
    to_one_hop: "echo + fdatasync",
    to_two_hops: "2 echos + fdatasync",
    None: "",
}

# What zooid must reach and what it aims at: a figure of a case, alone or as a ratio to what it is compared with. `name`
# is for people, where the figure's own says too little.
Target = namedtuple("Target", "case figure compared must aim name middle", defaults=["", "", statistics.median])
TARGETS = [
    Target("get-64x16", "op/cpu-s", to_java, ">= 10", ">= 15"),
    Target("get-64x16", "op/cpu-s", to_echo, "", ">= 0.55"),
    Target("get-16x1", "op/s", to_java, ">= 2"),
    Target("get-16x1", "op/cpu-s", to_java, ">= 3"),
    Target("get-16x1", "op/s", to_echo, "", ">= 0.85"),
    Target("get-16x1", "op/cpu-s", to_echo, "", ">= 0.85"),
    Target("set-64x16", "op/s", to_java, ">= 3"),
    Target("set-64x16", "op/cpu-s", to_java, ">= 4", ">= 8"),
    Target("3x-set-64x16", "op/s", to_java, ">= 4", ">= 8"),
    Target("3x-set-64x16", "op/cpu-s", to_java, ">= 5", ">= 8"),
    Target("set-1x1", "p50 us", to_java, "<= 0.75"),
    Target("set-1x1", "p50 us", to_one_hop, "<= 1.6", "<= 1.2"),
    Target("3x-set-1x1", "p50 us", to_java, "<= 0.5"),
    Target("3x-set-1x1", "p50 us", to_two_hops, "", "<= 1.3"),
    Target("tail", "p99.9 on/off", None, "<= 1.5", "", "set p99.9, background work on/off"),
    Target("tail", "on: longest above the probe's ms", None, "<= 100", "", "longest stall above the disk's, ms"),
    Target("tail-10000000", "p99.9 on/off", None, "", "<= 1.5", "set p99.9, background work on/off"),
    Target("tail-10000000", "on: longest above the probe's ms", None, "", "<= 100", "longest stall above the disk's, ms"),
    Target("join", "until it serves ms", to_java, "<= 0.5", "<= 0.25", "until it serves"),
    Target("join", "set p99.9 joining/not", None, "<= 1.5"),
    Target("znodes-1000000", "resident MB", None, "<= 300", "<= 220"),
    Target("znodes-1000000", "restart ms", to_java, "<= 0.25", "", "restart"),
    Target("znodes-1000000", "restart ms", None, "<= 1000", "<= 300"),
    Target("znodes-10000000", "restart ms", None, "", "<= 3000"),
    Target("failover", "next write ms", to_java, "<= 1", "", "leader killed, next write acknowledged"),
    Target("failover", "next write ms", None, "", "<= 500", "the same, the longest of all, ms", max),
    Target("idle", "B/session", None, "<= 4096"),
    Target("idle-100000", "B/session", None, "", "<= 4096"),
    Target("connect", "sessions/s", to_java, ">= 4", ">= 10", "sessions/s, 32 clients at a time"),
    Target("storm", "sessions/s", to_java, ">= 4", ">= 10", "sessions/s, 1,000 clients at a time"),
    Target("watch", "last event p50 us", to_java, "<= 0.333", "", "1,000 watchers, last event p50"),
    Target("watch", "last event p50 us", None, "", "<= 5000", "1,000 watchers, last event p50, us"),
]


def holds(bound, value):
    sign, limit = bound.split()
    return value >= float(limit) if sign == ">=" else value <= float(limit)


def verdict(must, aim, value):
    if value is None:
        return "not measured"
    if must and not holds(must, value):
        return "**no**"
    if aim and holds(aim, value):
        return "yes, and the aim"
    return "yes" if must else "not the aim"


def judged(results):
    """Each target with what was reached: the middle one of all values, and the least and the most."""
    rows = []
    for target in TARGETS:
        mine = results.values(target.case, target.figure, "zooid")
        other = target.compared(results, target.case, target.figure) if target.compared else [1]
        reached, least, most, bare = None, None, None, None
        if mine and other:
            one = statistics.median(other)
            reached, least, most = target.middle(mine) / one, min(mine) / one, max(mine) / one
            if limit := results.values(target.case, target.figure, "bare"):
                bare = target.middle(limit) / one
        rows.append({
            "case": target.case, "figure": target.name or target.figure, "compared_with": TO[target.compared],
            "must": target.must, "aim": target.aim, "reached": reached, "least": least, "most": most, "bare": bare,
            "ok": verdict(target.must, target.aim, reached),
        })
    return rows


def table(header, rows, words=2):
    """Markdown that is also readable as it is."""
    widths = [max(len(str(row[i])) for row in [header, *rows]) for i in range(len(header))]

    def line(cells):
        # Words, which come first, to the left; figures to the right.
        padded = [str(cell).ljust(w) if i < words else str(cell).rjust(w) for i, (cell, w) in enumerate(zip(cells, widths))]
        return f"| {' | '.join(padded)} |"

    rule = ["-" * w if i < words else "-" * (w - 1) + ":" for i, w in enumerate(widths)]
    return "\n".join(map(line, [header, rule, *rows]))


def target_table(rows):
    def spread(row):
        return f"{short(row['least'])} .. {short(row['most'])}" if row["least"] != row["most"] else ""

    header = ["case", "figure", "compared with", "must", "aim", "reached", "least .. most", "bare server", "ok"]
    cells = [
        [row["case"], row["figure"], row["compared_with"], row["must"], row["aim"], short(row["reached"]), spread(row),
         short(row["bare"]) if row["bare"] else "", row["ok"]]
        for row in rows
    ]
    return table(header, cells, words=3)


def figure_table(results, cases, servers):
    """Medians of all figures of some cases, or nothing if there are none."""
    rows = []
    for case in cases:
        names = dict.fromkeys(figure for (of, figure, _) in results.figures if of == case)
        for figure in names:
            medians = {server: results.median(case, figure, server) for server in servers}
            java, zooid = medians.get("java"), medians.get("zooid")
            ratio = zooid / java if java and zooid is not None else None
            rows.append([case, figure, *(short(medians[server]) for server in servers), short(ratio)])
    return table(["case", "figure", *(NAMES[server] for server in servers), "zooid/Java"], rows) if rows else ""


def load_table(results, cases, servers, figures, ratio):
    """A line for each load; with `ratio`, also zooid's to Java's."""
    cases = [case for case in cases if any(results.values(case, figures[0], server) for server in servers)]
    header = ["load"]
    for figure in figures:
        header += [f"{SHORT[server]} {figure}" for server in servers] + (["ratio"] if ratio else [])
    rows = []
    for case in cases:
        cells = [case]
        for figure in figures:
            medians = {server: results.median(case, figure, server) for server in servers}
            for server in servers:
                bound = figure == "op/s" and (results.median(case, "generator cores", server) or 0) > 0.95
                cells.append(short(medians[server]) + ("*" if bound else ""))
            if ratio:
                both = medians.get("java") and medians.get("zooid")
                cells.append(short(medians["zooid"] / medians["java"]) if both else "-")
        rows.append(cells)
    return table(header, rows, words=1) if rows else ""


def load_tables(results, cases, servers):
    servers = [server for server in servers if any(results.values(case, "op/s", server) for case in cases)]
    return [
        load_table(results, cases, servers, ["op/s", "op/cpu-s"], ratio=True),
        load_table(results, cases, servers, ["p50 us", "p99 us", "p99.9 us"], ratio=False),
    ]


def sizes_of(results, prefix):
    found = {int(case.removeprefix(prefix)) for (case, _, _) in results.figures if case.startswith(prefix)}
    return sorted(found)


def growth_table(results):
    columns = ["get cpu-us", "set cpu-us", "create-delete cpu-us", "children ms", "children ns/child", "restart ms", "resident MB"]
    rows = []
    for count in sizes_of(results, "growth-"):
        medians = [results.median(f"growth-{count}", column, "zooid") for column in columns]
        per_znode = medians[-1] * 1e6 / count
        rows.append([f"{count:,}", *map(short, medians), short(per_znode)])
    return table(["znodes", *columns, "resident B/znode"], rows, words=0) if rows else ""


def over_clients(results, op, servers):
    return {
        NAMES[server]: [(n, results.median(f"{op}-{n}x1", "op/s", server)) for n in CLIENTS
                        if results.values(f"{op}-{n}x1", "op/s", server)]
        for server in servers
    }


QUANTILES = ["p50", "p90", "p99", "p99.9", "p99.99", "max"]


def over_quantiles(results, case, servers):
    lines = {}
    for server in servers:
        medians = [results.median(case, f"{quantile} us", server) for quantile in QUANTILES]
        lines[NAMES[server]] = [(at, us / 1e3) for at, us in enumerate(medians) if us]
    return lines


def over_sizes(results, prefix, figures):
    """`figures` maps the names of lines to a figure and a server."""
    return {
        name: [(n, results.median(f"{prefix}{n}", figure, server)) for n in sizes_of(results, prefix)
               if results.values(f"{prefix}{n}", figure, server)]
        for name, (figure, server) in figures.items()
    }


def plots(results, servers):
    """File names with a title and the drawing."""
    real = [server for server in servers if server not in LIMITS]
    found = {}

    def add(file, title, x_label, y_label, lines, **more):
        lines = {name: points for name, points in lines.items() if points}
        if any(len(points) > 1 for points in lines.values()):
            found[file] = (title, plot(title, x_label, y_label, lines, **more))

    for op in ["get", "set"]:
        title = f"{op}: throughput against clients, one request in flight each"
        add(f"throughput-{op}.svg", title, "clients", "operations per second", over_clients(results, op, servers))
    for case, of in [("get-paced", "get"), ("set-paced", "set"), ("3x-set-paced", "set, three servers")]:
        rate = {**LOADS, **THREE}[case].rate
        title = f"{of}: latency at {rate:,} requests per second"
        lines = over_quantiles(results, case, servers)
        add(f"latency-{case}.svg", title, "percentile", "ms", lines, x_names=QUANTILES)
    for figure, of, file in [("resident MB", "resident memory, MB", "memory"), ("restart ms", "restart until it serves, ms", "restart")]:
        lines = over_sizes(results, "znodes-", {NAMES[server]: (figure, server) for server in real})
        add(f"{file}.svg", f"{of}, against znodes of 100 B", "znodes", of, lines)
    lines = over_sizes(results, "growth-", {f"{op}": (f"{op} cpu-us", "zooid") for op in ["get", "set", "create-delete"]})
    add("growth-cpu.svg", "zooid: CPU time per operation, all znodes under one parent", "znodes", "us", lines, log_y=False)
    lines = over_sizes(results, "growth-", {"getChildren": ("children ms", "zooid"), "restart": ("restart ms", "zooid")})
    add("growth-time.svg", "zooid: what may grow with the number of znodes", "znodes", "ms", lines)
    return found


def markdown(args, results, rows, drawings, facts):
    real = [server for server in args.servers if server not in LIMITS]
    machine, versions = facts["machine"], facts["versions"]
    out = [
        f"# zooid beside ZooKeeper {JAVA_VERSION}",
        f"{time.strftime('%Y-%m-%d %H:%M', time.gmtime())} UTC, {facts['minutes']:.0f} minutes. Made by `{facts['command']}`.",
        f"- machine: {machine['cpu']}, {machine['cores']} cores, {machine['memory_gb']} GB, Linux {machine['kernel']}, "
        f"{machine['device']}; its load before: {machine['load']:.2f}\n"
        f"- zooid: {versions['zooid']}, checkout {versions['checkout']}\n"
        f"- ZooKeeper {versions['zookeeper']}, {versions['java']}; G1, -Xmx{args.heap}, three members -Xmx{args.member_heap} each, "
        f"warmed up for {args.warmup} s\n"
        "- fsync on in both, default configuration, data on the same device, servers and generator on the one machine\n"
        f"- {args.keys:,} znodes of 100 B under 100 parents in loads, {args.join_znodes:,} under 1,000 where a member joins; "
        f"each load {args.time}\n"
        f"- medians of {args.rounds} rounds, which take turns between the servers\n"
        f"- 64x16 is 64 connections with 16 requests in flight each; op/cpu-s is operations per CPU-second of the server; "
        f"a case that begins with 3x has three servers, and the CPU time of all\n"
        f"- paced loads count latency from when the schedule wanted the request; the generator used at most "
        f"{results.own:.2f} of a core; * marks op/s where that was more than 0.95, which may be its own limit",
    ]
    for title, lines in [("What failed", results.failed), ("Errors during loads", results.troubles)]:
        if lines:
            out += [f"## {title}", "\n".join(f"- {line}" for line in lines)]
    out += ["## Targets", target_table(rows)]
    if drawings:
        out += ["## Plots", "\n\n".join(f"![{title}]({file})" for file, (title, _) in drawings.items() if "growth" not in file)]
    sizes = [f"znodes-{count}" for count in sizes_of(results, "znodes-")]
    for title, cases, servers in [("One server", LOADS, args.servers), ("Three servers", THREE, args.servers)]:
        if found := [figures for figures in load_tables(results, cases, servers) if figures]:
            out += [f"## {title}", *found]
    for title, cases, servers in [
        ("The leader is killed", ["failover"], real),
        ("Sessions and watches", [*GROUPS["sessions"], "idle-100000"], args.servers),
        ("Memory and restart", sizes, real),
        ("Background work", ["tail", "tail-10000000"], real),
        ("A member joins", ["join"], real),
    ]:
        if figures := figure_table(results, cases, servers):
            out += [f"## {title}", figures]
    if figures := growth_table(results):
        out += [
            "## Growth",
            "zooid alone, all znodes children of one parent. cpu-us is CPU time of the server per operation, 64x16; a create "
            "and a delete in turn leave the parent as large as it is. getChildren is one at a time, the median.",
            figures,
            "\n\n".join(f"![{title}]({file})" for file, (title, _) in drawings.items() if "growth" in file),
        ]
    limits = [[figure, short(results.median("fdatasync", figure, "machine"))] for figure in ["syncs/s", "p50 us", "p99 us"]]
    out += [
        "## Limits of the machine",
        "One write of 512 B and one fdatasync, repeated, in a preallocated file; what the sockets allow is the column "
        "of the bare echo server, a tokio server that answers the same frames without any meaning. The bare server has one "
        "thread and no runtime; with three servers it is a follower, and the leader and another follower are threads of it with "
        "sockets and files of their own, where every set is written and synced. What it does not reach is beyond the sockets and the disk of this machine, as "
        "far as one thread can use them.",
        table(["fdatasync", "median"], limits, words=1),
    ]
    return "\n\n".join(out) + "\n"


def write(args, results, facts):
    """Prints the report, and writes it with its figures and plots if there is a place for them."""
    rows = judged(results)
    if args.out:
        # First of all: what was measured in an hour must outlive whatever is wrong below.
        args.out.mkdir(parents=True, exist_ok=True)
        figures = [{"case": case, "figure": figure, "server": server, "values": values}
                   for (case, figure, server), values in results.figures.items()]
        report = {**facts, "failed": results.failed, "troubles": results.troubles, "targets": rows, "figures": figures,
                  "raw": results.raw}
        (args.out / "report.json").write_text(json.dumps(report, indent=1) + "\n")
    drawings = plots(results, args.servers)
    text = markdown(args, results, rows, drawings, facts)
    print(text)
    if args.out:
        (args.out / "report.md").write_text(text)
        for file, (_, drawing) in drawings.items():
            (args.out / file).write_text(drawing)

"""What is measured, and the figures that come of it."""

import re
import signal
import statistics
import threading
from collections import namedtuple

from bench_servers import Ensemble, Server, measuring, now_ms, say, until_ready

# Requests in flight are per connection; without a rate it is a closed loop.
Load = namedtuple("Load", "op connections in_flight rate", defaults=[None])

CLIENTS = [1, 4, 16, 64, 256]
LOADS = {
    "get-64x16": Load("get", 64, 16),
    "set-64x16": Load("set", 64, 16),
    **{f"{op}-{clients}x1": Load(op, clients, 1) for op in ("get", "set") for clients in CLIENTS},
    **{f"{op}-paced": Load(op, 64, 16, 20_000) for op in ("get", "set")},
    "mixed-64x16": Load("get:9,set:1", 64, 16),
    "exists-64x16": Load("exists", 64, 16),
    "children-64x16": Load("children", 64, 16),
    "multi-64x16": Load("multi", 64, 16),
    "create-delete-64x16": Load("create-delete", 64, 16),
    "ephemeral-64x16": Load("ephemeral", 64, 16),
}
THREE = {
    "3x-get-64x16": LOADS["get-64x16"],
    "3x-set-64x16": LOADS["set-64x16"],
    "3x-set-1x1": LOADS["set-1x1"],
    "3x-set-paced": Load("set", 64, 16, 5_000),
}
# So many clients at a time. Java's listener has room for 50 that it has not accepted yet.
STORMS = {"connect": 32, "storm": 1_000}
SESSIONS = ["watch", *STORMS, "idle"]
# Servers that do nothing but what the sockets and the disk take.
LIMITS = ["echo", "bare"]
# What has several cases, by the name that chooses all of them.
GROUPS = {"loads": [*LOADS], "three": [*THREE], "sessions": SESSIONS}
CASES = [*LOADS, *SESSIONS, *THREE, "failover", "znodes", "tail", "join", "growth"]

PARENTS = 1_000
NEVER = 2_000_000_000
# Of the loads with background work on and off, where a snapshot alone takes half a minute.
LARGEST_TAIL_TIME = "90s"


class Results:
    """The figures of each case and server: a value for each round."""

    def __init__(self):
        self.figures = {}
        self.raw = []
        # The most of the generator's own share of a core, and the sets per second of `tail`.
        self.own = 0.0
        self.tail_rate = None
        self.failed = []
        self.troubles = []

    def add(self, server, case, raw, figures):
        self.raw.append({**raw, "server": server, "case": case})
        for figure, value in figures.items():
            self.figures.setdefault((case, figure, server), []).append(value)
        for run in runs(raw):
            if run["errors"] or run["lost"] or run.get("unanswered"):
                self.troubles.append(f"{server}, {case}: errors by code {run['errors']}, {run['lost']} connections lost, "
                                     f"{run.get('unanswered', 0):.0f} requests unanswered")
                say(f"  TROUBLE: {self.troubles[-1]}")
        say("  " + ", ".join(f"{figure} {short(value)}" for figure, value in figures.items()))

    def values(self, case, figure, server):
        return self.figures.get((case, figure, server), [])

    def median(self, case, figure, server):
        values = self.values(case, figure, server)
        return statistics.median(values) if values else None

    def attempt(self, what, measure, *args):
        """A case that fails does not take the others' figures with it."""
        say(what)
        try:
            measure(*args)
        except (RuntimeError, OSError) as e:
            say(f"FAILED: {what}: {e}")
            self.failed.append(f"{what}: {e}")


def runs(raw):
    """What the generator said, wherever it is in `raw`."""
    if "lost" in raw:
        yield raw
    for inner in raw.values():
        if isinstance(inner, dict):
            yield from runs(inner)


def short(value):
    """Three or four digits are enough."""
    if value is None:
        return "-"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def chosen(cases, args):
    return {name: case for name, case in cases.items() if name in args.only}


def limits(args, bench, results):
    """What the disk allows; the echo server, which tells what the sockets allow, has the same loads as the servers."""
    raw = bench("fdatasync", "--dir", args.dir, "--time", "3s", "--json", "--quiet")
    latency = raw["latency_us"]
    results.add("machine", "fdatasync", raw, {"syncs/s": raw["syncs"] / 3, "p50 us": latency["p50"], "p99 us": latency["p99"]})


def shape(load):
    rate = ["--rate", load.rate] if load.rate else []
    return ["--op", load.op, "--connections", load.connections, "--in-flight", load.in_flight, *rate]


def keys(args):
    return ["--keys", args.keys, "--parents", 100]


def warm_up(target, args, *names):
    """For Java's compiler; and the first of it creates the znodes."""
    for op in ["get", "set"]:
        target.run("load", *names, "--op", op, "--warmup", "0s", "--time", f"{args.warmup / 2}s")


def loads(target, cases, args, results):
    fill = ["--no-fill"] if target.name in LIMITS else []
    if not fill:
        warm_up(target, args, *keys(args))
    for case, load in cases.items():
        say(f"{target.name}: {case}")
        raw = target.run("load", *keys(args), *fill, *shape(load), "--warmup", "1s", "--time", args.time)
        latency = raw["latency_us"]
        results.own = max(results.own, raw["own_cpu_share"])
        results.add(target.name, case, raw, {
            "op/s": raw["throughput"],
            "op/cpu-s": raw["op_per_server_cpu_second"],
            **{f"{quantile} us": latency[quantile] for quantile in ["p50", "p90", "p99", "p99.9", "p99.99", "max"]},
            "generator cores": raw["own_cpu_share"],
        })


def standalone(name, args, bench, results):
    cases = chosen(LOADS, args)
    if name == "echo":
        # It has no answers of the right size to anything else.
        cases = {case: load for case, load in cases.items() if re.fullmatch("(get|set|exists|[:,0-9])+", load.op)}
    with Server(name, args, bench) as server:
        server.start()
        loads(server, cases, args, results)


def sessions(name, args, bench, results):
    with Server(name, args, bench) as server:
        server.start()
        # What has no state of its sessions says nothing of what they cost.
        if "idle" in args.only and name not in LIMITS:
            idle(server, args.sessions, results)
        if "watch" in args.only and name != "echo":  # which knows no more of a session than its beginning
            say(f"{name}: watch fan-out")
            raw = server.run("watch", "--sessions", 1_000, "--rounds", args.fan_outs)
            last = raw["last_event_us"]
            results.add(name, "watch", raw, {"last event p50 us": last["p50"], "last event p99 us": last["p99"]})
        for case, at_once in chosen(STORMS, args).items():
            say(f"{name}: connections, {at_once} at a time")
            # The first storm is the warm-up.
            for count in [args.sessions // 2, args.sessions]:
                raw = server.run("connect", "--sessions", count, "--at-once", at_once)
            rates = {"sessions/s": raw["throughput"], "sessions/cpu-s": raw["op_per_server_cpu_second"]}
            results.add(name, case, raw, rates)


def idle(server, count, results):
    say(f"{server.name}: {count:,} idle sessions")
    raw = server.run("idle", "--sessions", count, "--time", "5s")
    case = "idle" if count < 100_000 else f"idle-{count}"
    results.add(server.name, case, raw, {"B/session": raw["server_bytes_per_session"]})


def many_idle(args, bench, results):
    with Server("zooid", args, bench) as server:
        server.start()
        idle(server, 100_000, results)


def bare_three(args, bench, results):
    """A follower of three, as far as sockets and disks can tell: the first of the others' three members is one, too."""
    with Server("bare", args, bench, ["--dir", str(args.dir / "bare"), "--three"]) as server:
        server.start()
        loads(server, chosen({"3x-set-1x1": THREE["3x-set-1x1"]}, args), args, results)


def three(name, args, bench, results):
    if name == "bare":
        return bare_three(args, bench, results)
    with Ensemble(name, args, bench) as ensemble:
        ensemble.start()
        loads(ensemble, chosen(THREE, args), args, results)
        if "failover" in args.only:
            failover(ensemble, args, bench, results)


def failover(ensemble, args, bench, results):
    path = "/bench/p00"
    for _ in range(args.kills):
        leader = ensemble.leader()
        say(f"{ensemble.name}: killing the leader")
        others = [member for member in ensemble.members if member is not leader]
        since = now_ms()
        leader.process.send_signal(signal.SIGKILL)
        took = until_ready(bench, others, since, path, "--write")
        results.add(ensemble.name, "failover", {"ready_ms": took}, {"next write ms": took})
        leader.kill()
        leader.start(path)


def tree(count, parents=PARENTS, root="/bench"):
    return ["--root", root, "--keys", count, "--parents", parents]


def last_key(count, parents=PARENTS, root="/bench"):
    last, width = count - 1, len(str(parents - 1))
    return f"{root}/p{last % parents:0{width}}/k{last}"


def filled(server, names, args):
    """The figures of bulk creation and of memory."""
    raw = server.run("fill", *names, "--settle", args.settle)
    return raw, {"create op/s": raw["throughput"], "resident MB": raw["settled_resident_mb"]}


def znodes(name, count, args, bench, results):
    with Server(name, args, bench) as server:
        server.start()
        raw, figures = filled(server, tree(count), args)
        server.kill()
        figures["restart ms"] = server.start(last_key(count))
        results.add(name, f"znodes-{count}", raw, figures)


def growth(count, args, bench, results):
    """All znodes are children of one, so that what costs by the size of a parent shows as well."""
    with Server("zooid", args, bench) as server:
        server.start()
        names = tree(count, parents=1)
        raw, figures = filled(server, names, args)
        server.kill()
        figures["restart ms"] = server.start(last_key(count, parents=1))
        # A create and a delete in turn leave the parent as large as it is.
        for op in ["get", "set", "create-delete"]:
            run = server.run("load", *names, *shape(Load(op, 64, 16)), "--warmup", "1s", "--time", args.time)
            raw[op] = run
            figures[f"{op} cpu-us"] = 1e6 / run["op_per_server_cpu_second"]
        run = server.run("load", *names, *shape(Load("children", 1, 1)), "--warmup", "1s", "--time", args.time)
        raw["children"] = run
        figures["children ms"] = run["latency_us"]["p50"] / 1e3
        figures["children ns/child"] = run["latency_us"]["p50"] * 1e3 / count
        results.add("zooid", f"growth-{count}", raw, figures)


class Snapshots:
    """Counts the snapshots that a server writes meanwhile; a purge may remove them at once."""

    def __init__(self, server):
        self.dir = server.dir / "data" / "version-2"
        self.before = self.names()
        self.seen = set()
        self.done = threading.Event()
        self.thread = threading.Thread(target=self.look)

    def names(self):
        return {path.name for path in self.dir.glob("snapshot.*")}

    def look(self):
        while not self.done.wait(0.2):
            self.seen |= self.names()

    def count(self):
        return len(self.seen - self.before)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.done.set()
        self.thread.join()


def tail_configs(args):
    on = [f"snapCount={args.snap_count}", "autopurge.purgeInterval=1", "autopurge.snapRetainCount=3", *args.on]
    off = [f"snapCount={NEVER}", "autopurge.purgeInterval=0", *args.off]
    return {"off": off, "on": on}


def tail_rate(args, bench, results):
    """Half of what the slower of the servers reaches in a closed loop: a load that leaves both of them room, as one
    at which requests queue anyway says nothing of what else makes them wait."""
    if args.rate is None and results.tail_rate is None:
        most = []
        for name in args.servers:
            if name not in LIMITS:
                with Server(name, args, bench, tail_configs(args)["off"]) as server:
                    server.start()
                    warm_up(server, args, *keys(args))
                    most.append(server.run("load", *keys(args), "--op", "set", "--time", "5s")["throughput"])
        results.tail_rate = min(most) / 2
    return args.rate or results.tail_rate


def tail(name, round_, args, bench, results, largest=None):
    """What background work does: set at a fixed rate, with image writes, snapshots and purges running, against the
    same with them off, and a probe of the disk alongside, which syncs 512 B every few milliseconds in a file of its
    own. A stall that the probe sees too is the disk's."""
    configs = tail_configs(args)
    names, case = (tree(largest), f"tail-{largest}") if largest else (keys(args), "tail")
    rate = tail_rate(args, bench, results)
    figures, raws = {"rate op/s": rate}, {}
    # Each is the first every other time.
    for label in list(configs) if round_ % 2 == 0 else list(configs)[::-1]:
        say(f"{name}: {rate:,.0f} sets per second, background work {label}")
        raw, probe, snapshots = tail_of_one(name, names, configs[label], rate, largest, args, bench)
        if label == "on" and snapshots == 0:
            raise RuntimeError("no snapshot was written, so this says nothing about them")
        latency = raw["latency_us"]
        raws[label] = {"load": raw, "probe": probe}
        figures[f"{label}: p99 ms"] = latency["p99"] / 1e3
        figures[f"{label}: p99.9 ms"] = latency["p99.9"] / 1e3
        figures[f"{label}: longest ms"] = latency["max"] / 1e3
        figures[f"{label}: probe's longest ms"] = probe["latency_us"]["max"] / 1e3
        figures[f"{label}: snapshots"] = snapshots
    figures["p99.9 on/off"] = figures["on: p99.9 ms"] / figures["off: p99.9 ms"]
    figures["on: longest above the probe's ms"] = figures["on: longest ms"] - figures["on: probe's longest ms"]
    results.add(name, case, raws, figures)


def tail_of_one(name, names, config, rate, largest, args, bench):
    with Server(name, args, bench, config) as server:
        server.start()
        warm_up(server, args, *names)
        if largest:
            # The next snapshot is due when the log has grown by more than that of the load; but a purge that has not
            # been for an hour, or not since the start, begins with one.
            server.kill()
            server.start()
        time = ["--time", LARGEST_TAIL_TIME if largest else args.tail_time]
        probing = bench.start("fdatasync", "--dir", server.dir, "--interval", "5ms", *time, "--json", "--quiet")
        with Snapshots(server) as snapshots:
            try:
                raw = server.run("load", *names, *shape(Load("set", 64, 16, rate)), "--warmup", "1s", *time)
            finally:
                probe = bench.finish(probing)
    return raw, probe, snapshots.count()


def join(name, args, bench, results):
    """A third member comes with nothing, again and again, while the other two have a load at a fixed rate."""
    with Ensemble(name, args, bench) as ensemble:
        third = ensemble.members[-1]
        ensemble.start(ensemble.members[:2])
        names = tree(args.join_znodes)
        ensemble.run("fill", *names)
        warm_up(ensemble, args, *names)
        load = ["load", *names, *shape(THREE["3x-set-paced"]), "--warmup", "0s", "--time", args.join_time]
        others = ensemble.running()
        raw, serves = {}, []
        for number in range(1, args.joins + 1):
            say(f"{name}: a member joins, {args.join_znodes:,} znodes, {number} of {args.joins}")
            raw[f"two-{number}"] = bench.finish(measuring(bench, others, *load))
            joining = measuring(bench, others, *load)
            try:
                serves.append(third.start(last_key(args.join_znodes)))
            finally:
                during = raw[f"joining-{number}"] = bench.finish(joining)
            # Three servers share the processors and the disk that two had.
            raw[f"three-{number}"] = bench.finish(measuring(bench, others, *load))
            logs = (third.dir / "data" / "version-2").glob("log.*")
            if any(int(log.suffix[1:], 16) & 0xFFFF_FFFF == 1 for log in logs):
                raise RuntimeError(f"{name}: the member has got the whole history instead of a snapshot")
            if serves[-1] > during["seconds"] * 1e3:
                say(f"  the load ended before the member served: choose a longer --join-time than {args.join_time}")
            third.empty()

        def of(what, figure):
            # A stall of the disk in one window is nobody's work.
            return statistics.median(raw[f"{what}-{number}"]["latency_us"][figure] / 1e3 for number in range(1, args.joins + 1))

        alone = statistics.mean([of("two", "p99.9"), of("three", "p99.9")])
        results.add(name, "join", raw, {
            "until it serves ms": statistics.median(serves),
            "set p99.9 of two ms": of("two", "p99.9"),
            "set p99.9 while it joins ms": of("joining", "p99.9"),
            "set p99.9 of three ms": of("three", "p99.9"),
            "set p99.9 joining/not": of("joining", "p99.9") / alone,
            "set longest of two ms": of("two", "max"),
            "set longest while it joins ms": of("joining", "max"),
            "set longest of three ms": of("three", "max"),
        })

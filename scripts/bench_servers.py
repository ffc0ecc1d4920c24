"""Servers to measure, alone or three together, and the load generator."""

import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

REPO = Path(__file__).resolve().parent.parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "zooid"
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", CACHE / "target")) / "release"
JAVA_VERSION = "3.9.5"

POM = f"""<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>zooid</groupId><artifactId>java-server</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency><groupId>org.apache.zookeeper</groupId><artifactId>zookeeper</artifactId><version>{JAVA_VERSION}</version></dependency>
    <dependency><groupId>io.dropwizard.metrics</groupId><artifactId>metrics-core</artifactId><version>4.1.12.1</version></dependency>
    <dependency><groupId>org.xerial.snappy</groupId><artifactId>snappy-java</artifactId><version>1.1.10.5</version></dependency>
  </dependencies>
</project>
"""


def say(text):
    print(f"[{time.strftime('%H:%M:%S')}] {text}", file=sys.stderr, flush=True)


def java_jars():
    """The jars of the release, from Maven Central the first time."""
    home = CACHE / "java" / JAVA_VERSION
    if not list(home.glob(f"lib/zookeeper-{JAVA_VERSION}.jar")):
        say(f"fetching Java ZooKeeper {JAVA_VERSION}")
        home.mkdir(parents=True, exist_ok=True)
        (home / "pom.xml").write_text(POM)
        fetch = ["mvn", "-q", "-B", "dependency:copy-dependencies", "-DoutputDirectory=lib"]
        subprocess.run(fetch, cwd=home, check=True, stdout=sys.stderr)
    return home / "lib" / "*"


class Bench:
    """`zooid bench`, which answers in JSON."""

    def __init__(self, args):
        self.command = shlex.split(args.bench) if args.bench else [args.zooid, "bench"]
        self.environment = {**os.environ, "RUST_BACKTRACE": "0"}

    def start(self, *args):
        command = [*self.command, *map(str, args)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=self.environment)

    def finish(self, process):
        out, _ = process.communicate()
        if process.returncode != 0:
            raise RuntimeError(f"{' '.join(process.args)} failed")
        return json.loads(out.splitlines()[-1])

    def __call__(self, *args):
        return self.finish(self.start(*args))


class Server:
    """One server process on an empty data directory."""

    def __init__(self, name, args, bench, config=()):
        self.name, self.args, self.bench, self.config = name, args, bench, config
        self.dir = args.dir / name
        self.port = free_port()
        self.process = None
        shutil.rmtree(self.dir, ignore_errors=True)
        (self.dir / "data").mkdir(parents=True)
        lines = [
            f"dataDir={self.dir}/data",
            f"clientPort={self.port}",
            "tickTime=2000",
            "maxClientCnxns=0",
            "admin.enableServer=false",
            *config,
        ]
        (self.dir / "zoo.cfg").write_text("\n".join(lines) + "\n")

    def command(self):
        config = str(self.dir / "zoo.cfg")
        if self.name == "java":
            main = "org.apache.zookeeper.server.quorum.QuorumPeerMain"
            return ["java", f"-Xmx{self.args.heap}", "-XX:+UseG1GC", "-cp", str(java_jars()), main, config]
        if self.name == "echo":
            return [*self.bench.command, "echo", "--serve", "--listen", f"127.0.0.1:{self.port}"]
        if self.name == "bare":
            return [*self.bench.command, "bare", "--listen", f"127.0.0.1:{self.port}", *self.config]
        return [self.args.zooid, "server", config]

    def spawn(self):
        """Starts it and returns when that was."""
        command = self.command()
        since = now_ms()
        with open(self.dir / "log", "ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.dir)
        return since

    def ready(self, since, path="/"):
        """The milliseconds until it has answered a get of `path`."""
        try:
            return until_ready(self.bench, [self], since, path)
        except RuntimeError:
            self.kill()
            raise RuntimeError(f"{self.name} does not serve; see {self.dir}/log") from None

    def start(self, path="/"):
        return self.ready(self.spawn(), path)

    def run(self, verb, *args):
        """One measurement of this server."""
        return measure(self.bench, [self], verb, *args)

    def kill(self):
        """As a power cut would, as far as a process can tell."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()

    def empty(self):
        """As it was before its first start."""
        self.kill()
        self.process = None
        for path in (self.dir / "data").iterdir():
            if path.name != "myid":
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    def remove(self):
        self.kill()
        shutil.rmtree(self.dir, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, error, *_):
        # The log of a failure is worth keeping.
        if error is None:
            self.remove()
        else:
            self.kill()


class Ensemble:
    """Three members on empty data directories."""

    def __init__(self, name, args, bench):
        numbers = [1, 2, 3]
        lines = [f"server.{n}=127.0.0.1:{free_port()}:{free_port()}" for n in numbers]
        lines += ["initLimit=10", "syncLimit=5", "4lw.commands.whitelist=*"]
        self.name, self.bench, self.members = name, bench, []
        for n in numbers:
            own = SimpleNamespace(**{**vars(args), "dir": args.dir / f"member-{n}", "heap": args.member_heap})
            member = Server(name, own, bench, lines)
            (member.dir / "data" / "myid").write_text(f"{n}\n")
            self.members.append(member)

    def start(self, members=None):
        # None of them serves before two run, so they are started together and then waited for.
        for member, since in [(member, member.spawn()) for member in members or self.members]:
            member.ready(since)

    def running(self):
        return [member for member in self.members if member.process]

    def leader(self):
        for member in self.running():
            if "Mode: leader" in four_letters(member.port, b"srvr"):
                return member
        raise RuntimeError(f"{self.name}: nobody leads")

    def run(self, verb, *args):
        """One measurement of all that run; clients are spread over them."""
        return measure(self.bench, self.running(), verb, *args)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        for member in self.members:
            member.__exit__(*error)


def addresses(servers):
    return ",".join(f"127.0.0.1:{server.port}" for server in servers)


def measuring(bench, servers, verb, *args):
    """Begins a measurement."""
    pids = ",".join(str(server.process.pid) for server in servers)
    return bench.start(verb, "--server", addresses(servers), "--pid", pids, "--json", "--quiet", *args)


def measure(bench, servers, verb, *args):
    figures = bench.finish(measuring(bench, servers, verb, *args))
    for server in servers:
        if server.process.poll() is not None:
            raise RuntimeError(f"{server.name} died; see {server.dir}/log")
    return figures


def until_ready(bench, servers, since, path, *args):
    """The milliseconds until one of them has answered."""
    about = ["--server", addresses(servers), "--path", path, "--since-ms", f"{since:.3f}", "--json"]
    return bench("ready", *about, *args)["ready_ms"]


def now_ms():
    return time.time() * 1000


def four_letters(port, word):
    with socket.create_connection(("127.0.0.1", port), timeout=5) as s:
        s.sendall(word)
        answer = b""
        while more := s.recv(4096):
            answer += more
    return answer.decode()


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def machine(args):
    """What the figures depend on."""
    model = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "?")
    device = output("df", "--output=fstype,source", args.dir).splitlines()[-1].split()
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9, 1),
        "kernel": os.uname().release,
        "device": f"{device[0]} on {device[1]}",
        "load": os.getloadavg()[0],
    }


def versions(args):
    return {
        "zooid": output(args.zooid, "--version").strip(),
        "checkout": output("git", "-C", REPO, "describe", "--always", "--dirty").strip() or "unknown",
        "zookeeper": JAVA_VERSION,
        "java": subprocess.run(["java", "-version"], capture_output=True, text=True).stderr.splitlines()[0],
    }


def output(*command):
    return subprocess.run([*map(str, command)], capture_output=True, text=True).stdout

"""Servers to measure, started and ended one at a time, and the load generator."""

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

REPO = Path(__file__).resolve().parent.parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "zooid"
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", REPO / "target")) / "release"
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


def add_common_arguments(parser):
    parser.add_argument("--zooid", default=str(TARGET / "zooid"), help="the binary (default: %(default)s)")
    parser.add_argument("--bench", help="the generator's command (default: the bench verb of --zooid)")
    parser.add_argument("--dir", type=Path, default=CACHE / "bench", help="where data goes (default: %(default)s)")
    parser.add_argument("--heap", default="4g", help="-Xmx of Java (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="write all figures there")


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


def java_version():
    return subprocess.run(["java", "-version"], capture_output=True, text=True).stderr.splitlines()[0]


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
        self.name, self.args, self.bench = name, args, bench
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
        return [self.args.zooid, "server", config]

    def start(self, path="/"):
        """Starts it and returns the milliseconds until it has answered a get of `path`."""
        log = open(self.dir / "log", "ab")
        command = self.command()
        since = time.time() * 1000
        self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.dir)
        try:
            ready = self.bench("ready", *self.address(), "--json", "--path", path, "--since-ms", f"{since:.3f}")
        except RuntimeError:
            self.kill()
            raise RuntimeError(f"{self.name} does not serve; see {self.dir}/log") from None
        return ready["ready_ms"]

    def address(self):
        return ["--server", f"127.0.0.1:{self.port}"]

    def run(self, verb, *args):
        """One measurement of this server."""
        pid = ["--pid", self.process.pid]
        figures = self.bench(verb, *self.address(), *pid, "--json", "--quiet", *args)
        if self.process.poll() is not None:
            raise RuntimeError(f"{self.name} died; see {self.dir}/log")
        return figures

    def kill(self):
        """As a power cut would, as far as a process can tell."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()

    def remove(self):
        self.kill()
        shutil.rmtree(self.dir, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        # The log of a failure is worth keeping.
        if sys.exc_info()[0] is None:
            self.remove()
        else:
            self.kill()


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def machine():
    """What the figures depend on."""
    model = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "?")
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9, 1),
        "kernel": os.uname().release,
        "load": os.getloadavg()[0],
        "java": java_version(),
    }


def short(value):
    """Three or four digits are enough."""
    if value is None:
        return "-"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def table(header, rows):
    widths = [max(len(str(row[i])) for row in [header, *rows]) for i in range(len(header))]
    lines = [header, ["-" * width for width in widths], *rows]
    for line in lines:
        cells = [str(cell).ljust(width) if i < 2 else str(cell).rjust(width) for i, (cell, width) in enumerate(zip(line, widths))]
        print("| " + " | ".join(cells) + " |")

"""The Python client against a server: operations, recipes, and a session that outlives its socket."""

import queue
import socket
import sys
import threading
import time

from kazoo.client import KazooClient, KazooState
from kazoo.exceptions import (
    BadVersionError,
    InvalidACLError,
    NoAuthError,
    NoChildrenForEphemeralsError,
    NodeExistsError,
    NoNodeError,
    NotEmptyError,
    RolledBackError,
    RuntimeInconsistency,
)
from kazoo.protocol.states import EventType
from kazoo.retry import KazooRetry
from kazoo.security import make_acl, make_digest_acl

SERVER = sys.argv[1]
DEADLINE = 20


def client(timeout=10.0, **options):
    options.setdefault("connection_retry", KazooRetry(max_tries=-1, delay=0.05, backoff=1, max_delay=0.1))
    zk = KazooClient(hosts=SERVER, timeout=timeout, **options)
    zk.start(timeout=DEADLINE)
    return zk


def equal(what, want, got):
    assert want == got, f"{what}: expected {want!r}, got {got!r}"


def fails(error, call, *args, **options):
    try:
        call(*args, **options)
    except error:
        return
    raise AssertionError(f"expected {error.__name__} from {call.__name__}{args}")


def wait(what, event):
    assert event.wait(DEADLINE), f"timed out waiting for {what}"


def until(what, holds):
    end = time.monotonic() + DEADLINE
    while not holds():
        assert time.monotonic() < end, f"timed out waiting until {what}"
        time.sleep(0.01)


def operations(a, b):
    equal("path", "/ops", a.create("/ops", b"1"))
    fails(NodeExistsError, a.create, "/ops", b"1")
    fails(NoNodeError, a.create, "/nowhere/x", b"")
    a.ensure_path("/ops/x/y")
    equal("sequence", "/ops/x/s-0000000001", a.create("/ops/x/s-", sequence=True))
    path, stat = a.create("/ops/x/e", b"me", ephemeral=True, include_data=True)
    equal("created", ("/ops/x/e", a.client_id[0]), (path, stat.ephemeralOwner))
    fails(NoChildrenForEphemeralsError, a.create, "/ops/x/e/f")
    data, stat = b.get("/ops")
    equal("data", (b"1", 0, 1), (data, stat.version, stat.numChildren))
    equal("set", 1, b.set("/ops", b"2", version=0).version)
    fails(BadVersionError, b.set, "/ops", b"3", version=0)
    children, stat = b.get_children("/ops/x", include_data=True)
    equal("children", ["e", "s-0000000001", "y"], sorted(children))
    equal("cversion", 3, stat.cversion)
    equal("exists", None, b.exists("/ops/none"))
    equal("big", 1_000_000, len(b.get(a.create("/ops/big", b"x" * 1_000_000))[0]))
    fails(NotEmptyError, a.delete, "/ops")
    equal("sync", "/ops", a.sync("/ops"))
    # Many requests in flight: answers come in the order of the requests.
    answers = [a.create_async(f"/ops/n{i}", b"%d" % i) for i in range(500)]
    equal("pipelined", [f"/ops/n{i}" for i in range(500)], [one.get(timeout=DEADLINE) for one in answers])
    a.delete("/ops", recursive=True)
    equal("deleted", None, b.exists("/ops"))


def transactions(a, b):
    a.create("/t", b"0")
    t = a.transaction()
    t.create("/t/a", b"1")
    t.create("/t/s-", b"", sequence=True)
    t.set_data("/t", b"1", version=0)
    t.check("/t", version=1)
    t.delete("/t/a", version=0)
    created, sequential, stat, checked, deleted = t.commit()
    equal("results", ("/t/a", "/t/s-0000000001", 1, True, True), (created, sequential, stat.version, checked, deleted))
    t = a.transaction()
    t.create("/t/b", b"1")
    t.check("/t", version=7)
    t.delete("/t")
    equal("failed", [RolledBackError, BadVersionError, RuntimeInconsistency], [type(r) for r in t.commit()])
    equal("untouched", ["s-0000000001"], b.get_children("/t"))


def watches(a, b):
    events = queue.Queue()
    a.create("/w")
    b.exists("/w/x", watch=events.put)
    b.get("/w", watch=events.put)
    b.get_children("/w", watch=events.put)
    a.create("/w/x")
    a.set("/w", b"1")
    got = [events.get(timeout=DEADLINE) for _ in range(3)]
    equal(
        "events",
        [(EventType.CREATED, "/w/x"), (EventType.CHILD, "/w"), (EventType.CHANGED, "/w")],
        [(e.type, e.path) for e in got],
    )
    b.get("/w/x", watch=events.put)
    a.delete("/w/x")
    equal("deleted", EventType.DELETED, events.get(timeout=DEADLINE).type)
    assert events.empty()


def data_and_children_watch(a, b):
    a.create("/dw", b"0")
    data, children = queue.Queue(), queue.Queue()
    b.DataWatch("/dw", lambda value, stat: data.put(value))
    b.ChildrenWatch("/dw", lambda names: children.put(sorted(names)))
    equal("first data", b"0", data.get(timeout=DEADLINE))
    equal("first children", [], children.get(timeout=DEADLINE))
    for i in range(1, 4):
        a.set("/dw", b"%d" % i)
        equal("data", b"%d" % i, data.get(timeout=DEADLINE))
        a.create(f"/dw/{i}")
        equal("children", [str(n) for n in range(1, i + 1)], children.get(timeout=DEADLINE))
    a.delete("/dw", recursive=True)
    until("the deletion is seen", lambda: data.get(timeout=DEADLINE) is None)


def lock(a, b):
    inside, most, order = [], [0], []

    def contend(zk, name):
        for _ in range(5):
            with zk.Lock("/lock", name):
                inside.append(name)
                most[0] = max(most[0], len(inside))
                order.append(name)
                inside.remove(name)

    threads = [threading.Thread(target=contend, args=(zk, f"c{i}"), daemon=True) for i, zk in enumerate([a, b, a, b])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
        assert not thread.is_alive(), "a contender hangs"
    equal("acquired", 20, len(order))
    equal("inside at once", 1, most[0])
    mine, yours = a.Lock("/lock", "mine"), b.Lock("/lock", "yours")
    assert mine.acquire(timeout=DEADLINE)
    assert not yours.acquire(blocking=False)
    equal("contenders", ["mine"], yours.contenders())
    mine.release()
    assert yours.acquire(timeout=DEADLINE)
    yours.release()
    semaphore = a.Semaphore("/semaphore", max_leases=1)
    assert semaphore.acquire(timeout=DEADLINE)
    semaphore.release()


def election(a, b):
    leaders = queue.Queue()
    release = {"a": threading.Event(), "b": threading.Event()}

    def lead(name):
        leaders.put(name)
        wait("the end of the term", release[name])

    first = a.Election("/election", "a")
    second = b.Election("/election", "b")
    threads = []
    for election, name in ((first, "a"), (second, "b")):
        thread = threading.Thread(target=election.run, args=(lead, name), daemon=True)
        thread.start()
        threads.append(thread)
        until(f"{name} is a contender", lambda: name in first.contenders())
    equal("first leader", "a", leaders.get(timeout=DEADLINE))
    equal("contenders", ["a", "b"], second.contenders())
    assert leaders.empty()
    release["a"].set()
    equal("second leader", "b", leaders.get(timeout=DEADLINE))
    release["b"].set()
    for thread in threads:
        thread.join(DEADLINE)


def recipes(a, b):
    counter = a.Counter("/counter", default=0)
    for zk in (a, b, a):
        c = zk.Counter("/counter", default=0)
        c += 2
    equal("counter", 6, counter.value)
    jobs = a.LockingQueue("/jobs")
    jobs.put(b"one")
    jobs.put(b"first", priority=1)
    other = b.LockingQueue("/jobs")
    for want in (b"first", b"one"):
        equal("job", want, other.get(timeout=DEADLINE))
        assert other.consume()
    barrier = a.Barrier("/barrier")
    barrier.create()
    assert not b.Barrier("/barrier").wait(timeout=0.1)
    barrier.remove()
    assert b.Barrier("/barrier").wait(timeout=DEADLINE)
    party = b.Party("/party", "b")
    party.join()
    until("b is at the party", lambda: list(a.Party("/party")) == ["b"])
    party.leave()


def access(a, b):
    acl = make_digest_acl("user", "secret", all=True)
    a.create("/secret", b"1", acl=[acl, make_acl("world", "anyone", read=True)])
    equal("read by anyone", b"1", b.get("/secret")[0])
    fails(NoAuthError, b.set, "/secret", b"2")
    fails(NoAuthError, b.create, "/secret/x")
    fails(InvalidACLError, b.create, "/unknown", acl=[make_acl("digest", "nocolon", all=True)])
    b.add_auth("digest", "user:secret")
    b.set("/secret", b"2")
    acls, stat = b.get_acls("/secret")
    equal("acls", ([acl, make_acl("world", "anyone", read=True)], 0), (acls, stat.aversion))
    b.set_acls("/secret", [acl], version=0)
    fails(NoAuthError, a.get, "/secret")
    fails(BadVersionError, b.set_acls, "/secret", [acl], version=0)
    # With the credentials given at the start they are sent again after each reconnect.
    c = client(auth_data=[("digest", "user:secret")])
    equal("read", b"2", c.get("/secret")[0])
    break_socket(c)
    equal("read again", b"2", c.get("/secret")[0])
    c.stop()
    c.close()


def break_socket(zk):
    """Cuts the connection as a network would, and waits until the client has another one."""
    lost, back = threading.Event(), threading.Event()

    def listen(state):
        if state == KazooState.SUSPENDED:
            lost.set()
        if state == KazooState.CONNECTED and lost.is_set():
            back.set()
        if state == KazooState.LOST:
            lost.set()

    zk.add_listener(listen)
    zk._connection._socket.shutdown(socket.SHUT_RDWR)
    wait("the loss of the connection", lost)
    wait("another connection", back)
    zk.remove_listener(listen)


def reattach(a, b):
    c = client()
    session = c.client_id
    c.create("/mine", b"1", ephemeral=True)
    data = queue.Queue()
    c.DataWatch("/mine", lambda value, stat: data.put(value))
    equal("data", b"1", data.get(timeout=DEADLINE))
    for i in range(3):
        break_socket(c)
        equal("session", session, c.client_id)
        equal("ephemeral", session[0], b.exists("/mine").ephemeralOwner)
        b.set("/mine", b"after %d" % i)
        equal("data", b"after %d" % i, data.get(timeout=DEADLINE))
    c.stop()
    until("the ephemeral goes with the session", lambda: b.exists("/mine") is None)
    c.close()
    # A client that ends with its first connection leaves its session behind; id and password are enough to
    # take it over.
    c = client(connection_retry=KazooRetry(max_tries=0))
    session = c.client_id
    c.create("/mine", b"1", ephemeral=True)
    ended = threading.Event()
    c.add_listener(lambda state: ended.set())
    c._connection._socket.shutdown(socket.SHUT_RDWR)
    wait("the end of the connection", ended)
    d = client(client_id=session)
    equal("session", session, d.client_id)
    equal("owner", session[0], d.exists("/mine").ephemeralOwner)
    d.stop()
    equal("ephemeral of a closed session", None, b.exists("/mine"))
    d.close()
    c.stop()
    c.close()
    # With a wrong password it is refused as expired, and the client gets a new one. Java cuts the rightful
    # owner's connection before it looks at the password; the owner's session must survive that.
    owner = a.client_id
    e = client(client_id=(owner[0], b"0" * 16))
    until("the impostor has another session", lambda: e.client_id and e.client_id[0] != owner[0])
    until("the owner has its session", lambda: a.client_id == owner)
    e.stop()
    e.close()


def ephemerals(a, b):
    gone = threading.Event()
    c = client()
    c.create("/eph", ephemeral=True)
    b.exists("/eph", watch=lambda event: gone.set())
    c.stop()
    wait("the ephemeral of a closed session to go", gone)
    c.close()
    # A client that falls silent (no pings, no close) loses its session when its time is over. A bare
    # socket is such a client: protocol 0, last zxid 0, timeout 1000 ms, session 0, a password of 16 bytes.
    host, port = SERVER.split(":")
    silent = socket.create_connection((host, int(port)), timeout=DEADLINE)
    silent.sendall(bytes.fromhex("0000002c 00000000 0000000000000000 000003e8 0000000000000000 00000010") + bytes(16))
    reply = silent.recv(64)
    session = int.from_bytes(reply[12:20], "big")
    path = b"/silent"
    create = (
        (1).to_bytes(4, "big") + (1).to_bytes(4, "big")  # xid, create
        + len(path).to_bytes(4, "big") + path + (0).to_bytes(4, "big")
        + (1).to_bytes(4, "big") + (31).to_bytes(4, "big") + (5).to_bytes(4, "big") + b"world"
        + (6).to_bytes(4, "big") + b"anyone" + (1).to_bytes(4, "big")  # ephemeral
    )
    silent.sendall(len(create).to_bytes(4, "big") + create)
    silent.recv(64)
    gone = threading.Event()
    stat = b.exists("/silent", watch=lambda event: gone.set())
    equal("owner", session, stat.ephemeralOwner)
    start = time.monotonic()
    wait("the silent session to expire", gone)
    took = time.monotonic() - start
    assert 0.5 < took < 5, f"a session of 1 s expired after {took:.1f} s"
    silent.close()


def words(a, b):
    equal("ruok", "imok", a.command(b"ruok"))
    assert "Mode: " in a.command(b"srvr")
    assert len(a.server_version()) >= 3


def main():
    a, b = client(), client()
    for step in (
        operations, transactions, watches, data_and_children_watch, lock, election, recipes, access, reattach,
        ephemerals, words,
    ):
        start = time.monotonic()
        try:
            step(a, b)
        except BaseException:
            print("FAILED", step.__name__, flush=True)
            raise
        print(f"ok {step.__name__} ({(time.monotonic() - start) * 1000:.0f} ms)", flush=True)
    a.stop()
    b.stop()


main()

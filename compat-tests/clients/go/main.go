// The Go client against a server: operations, transactions, watches, locks, ephemerals, authentication.
package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"reflect"
	"sort"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-zookeeper/zk"
)

const deadline = 20 * time.Second

var (
	server string
	open   = zk.WorldACL(zk.PermAll)
)

type quiet struct{}

func (quiet) Printf(string, ...interface{}) {}

// A check that does not hold ends the run; steps print their names when they are done.
func must(err error) {
	if err != nil {
		panic(err)
	}
}

func equal(what string, want, got any) {
	if !reflect.DeepEqual(want, got) {
		panic(fmt.Sprintf("%s: expected %v, got %v", what, want, got))
	}
}

func fails(want, got error) {
	if !errors.Is(got, want) {
		panic(fmt.Sprintf("expected %v, got %v", want, got))
	}
}

func receive[T any](what string, from <-chan T) T {
	select {
	case value := <-from:
		return value
	case <-time.After(deadline):
		panic("timed out waiting for " + what)
	}
}

// One connection of a client, so that a test can cut it.
type line struct {
	mu   sync.Mutex
	conn net.Conn
}

func (l *line) dial(network, address string, timeout time.Duration) (net.Conn, error) {
	conn, err := net.DialTimeout(network, address, timeout)
	l.mu.Lock()
	l.conn = conn
	l.mu.Unlock()
	return conn, err
}

func (l *line) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	must(l.conn.Close())
}

func connect() (*zk.Conn, <-chan zk.Event, *line) {
	l := &line{}
	conn, events, err := zk.Connect([]string{server}, 10*time.Second, zk.WithDialer(l.dial), zk.WithLogger(quiet{}))
	must(err)
	session(events)
	return conn, events, l
}

// Waits until the client has a session.
func session(events <-chan zk.Event) {
	for receive("a session", events).State != zk.StateHasSession {
	}
}

func operations(a, b *zk.Conn) {
	path, err := a.Create("/ops", []byte("1"), 0, open)
	must(err)
	equal("path", "/ops", path)
	_, err = a.Create("/ops", nil, 0, open)
	fails(zk.ErrNodeExists, err)
	_, err = a.Create("/none/x", nil, 0, open)
	fails(zk.ErrNoNode, err)
	path, err = a.Create("/ops/s-", nil, zk.FlagSequence, open)
	must(err)
	equal("sequence", "/ops/s-0000000000", path)
	path, err = a.CreateContainer("/ops/c", nil, zk.FlagContainer, open)
	must(err)
	equal("container", "/ops/c", path)
	path, err = a.CreateProtectedEphemeralSequential("/ops/c/e-", nil, open)
	must(err)
	must(a.Delete(path, -1))
	path, err = a.CreateTTL("/ops/t", nil, zk.FlagTTL, open, time.Minute)
	must(err)
	equal("ttl", "/ops/t", path)
	data, stat, err := b.Get("/ops")
	must(err)
	equal("data", "1", string(data))
	equal("children", int32(3), stat.NumChildren)
	stat, err = b.Set("/ops", []byte("22"), 0)
	must(err)
	equal("version", int32(1), stat.Version)
	equal("length", int32(2), stat.DataLength)
	_, err = b.Set("/ops", nil, 0)
	fails(zk.ErrBadVersion, err)
	there, _, err := b.Exists("/ops/none")
	must(err)
	equal("exists", false, there)
	children, _, err := b.Children("/ops")
	must(err)
	sort.Strings(children)
	equal("children", []string{"c", "s-0000000000", "t"}, children)
	_, err = a.Sync("/ops")
	must(err)
	fails(zk.ErrNotEmpty, a.Delete("/ops", -1))
	fails(zk.ErrBadVersion, a.Delete("/ops/c", 4))
	must(a.Delete("/ops/c", 0))
	_, err = a.IncrementalReconfig([]string{"server.5=127.0.0.1:1:2;3"}, nil, -1)
	fails(zk.ErrReconfigDisabled, err)
}

func transactions(a, b *zk.Conn) {
	results, err := a.Multi(
		&zk.CreateRequest{Path: "/m", Data: []byte("1"), Acl: open},
		&zk.CreateRequest{Path: "/m/s-", Acl: open, Flags: zk.FlagSequence},
		&zk.SetDataRequest{Path: "/m", Data: []byte("2"), Version: 0},
		&zk.CheckVersionRequest{Path: "/m", Version: 1},
		&zk.DeleteRequest{Path: "/m/s-0000000000", Version: 0},
	)
	must(err)
	equal("created", "/m/s-0000000000", results[1].String)
	equal("version", int32(1), results[2].Stat.Version)
	results, err = a.Multi(
		&zk.DeleteRequest{Path: "/m", Version: -1},
		&zk.CheckVersionRequest{Path: "/none", Version: -1},
	)
	fails(zk.ErrNoNode, err)
	fails(zk.ErrNoNode, results[1].Error)
	there, stat, err := b.Exists("/m")
	must(err)
	equal("untouched", true, there)
	equal("version", int32(1), stat.Version)
}

func watches(a, b *zk.Conn) {
	_, err := a.Create("/w", nil, 0, open)
	must(err)
	_, _, data, err := b.GetW("/w")
	must(err)
	_, _, children, err := b.ChildrenW("/w")
	must(err)
	_, _, exists, err := b.ExistsW("/w/x")
	must(err)
	_, err = a.Create("/w/x", nil, 0, open)
	must(err)
	_, err = a.Set("/w", []byte("1"), -1)
	must(err)
	equal("create", zk.EventNodeCreated, receive("a create event", exists).Type)
	equal("child", zk.EventNodeChildrenChanged, receive("a child event", children).Type)
	equal("data", zk.EventNodeDataChanged, receive("a data event", data).Type)
	_, _, data, err = b.GetW("/w/x")
	must(err)
	must(a.Delete("/w/x", -1))
	event := receive("a delete event", data)
	equal("delete", zk.EventNodeDeleted, event.Type)
	equal("path", "/w/x", event.Path)
}

func locks(a, b *zk.Conn) {
	var inside, total, wrong atomic.Int32
	var done sync.WaitGroup
	for i := 0; i < 8; i++ {
		conn := []*zk.Conn{a, b}[i%2]
		done.Add(1)
		go func() {
			defer done.Done()
			for round := 0; round < 5; round++ {
				lock := zk.NewLock(conn, "/lock", open)
				must(lock.Lock())
				if inside.Add(1) != 1 {
					wrong.Add(1)
				}
				total.Add(1)
				inside.Add(-1)
				must(lock.Unlock())
			}
		}()
	}
	all := make(chan bool)
	go func() { done.Wait(); close(all) }()
	receive("the contenders", all)
	equal("holders beside another", int32(0), wrong.Load())
	equal("acquired", int32(40), total.Load())
}

// The session and what it owns outlive a cut connection; watches are set again.
func reattach(_, b *zk.Conn) {
	conn, events, l := connect()
	id := conn.SessionID()
	_, err := conn.Create("/mine", nil, zk.FlagEphemeral, open)
	must(err)
	_, _, data, err := conn.GetW("/mine")
	must(err)
	for i := 0; i < 3; i++ {
		l.cut()
		session(events)
		equal("session", id, conn.SessionID())
		_, stat, err := b.Exists("/mine")
		must(err)
		equal("owner", id, stat.EphemeralOwner)
	}
	_, err = b.Set("/mine", []byte("1"), -1)
	must(err)
	equal("event", zk.EventNodeDataChanged, receive("a data event", data).Type)
	_, _, gone, err := b.ExistsW("/mine")
	must(err)
	conn.Close()
	equal("event", zk.EventNodeDeleted, receive("the end of the ephemeral", gone).Type)
}

func authentication(a, b *zk.Conn) {
	conn, _, _ := connect()
	must(conn.AddAuth("digest", []byte("user:secret")))
	_, err := conn.Create("/secret", []byte("1"), 0, zk.DigestACL(zk.PermAll, "user", "secret"))
	must(err)
	_, _, err = b.Get("/secret")
	fails(zk.ErrNoAuth, err)
	_, err = conn.SetACL("/secret", append(zk.DigestACL(zk.PermAll, "user", "secret"), zk.WorldACL(zk.PermRead)...), 0)
	must(err)
	data, _, err := b.Get("/secret")
	must(err)
	equal("data", "1", string(data))
	_, err = b.Set("/secret", nil, -1)
	fails(zk.ErrNoAuth, err)
	acls, stat, err := conn.GetACL("/secret")
	must(err)
	equal("acls", 2, len(acls))
	equal("aversion", int32(1), stat.Aversion)
	_, err = a.Create("/bad", nil, 0, []zk.ACL{{Perms: zk.PermAll, Scheme: "nonesuch", ID: "x"}})
	fails(zk.ErrInvalidACL, err)
	conn.Close()
}

// The other words that this client knows it cannot parse as Java 3.9 answers them.
func words(_, _ *zk.Conn) {
	equal("ruok", []bool{true}, zk.FLWRuok([]string{server}, time.Second))
}

func main() {
	server = os.Args[1]
	a, _, _ := connect()
	b, _, _ := connect()
	steps := []struct {
		name string
		run  func(a, b *zk.Conn)
	}{
		{"operations", operations}, {"transactions", transactions}, {"watches", watches}, {"locks", locks},
		{"reattach", reattach}, {"authentication", authentication}, {"words", words},
	}
	for _, step := range steps {
		start := time.Now()
		step.run(a, b)
		fmt.Printf("ok %s (%d ms)\n", step.name, time.Since(start).Milliseconds())
	}
	a.Close()
	b.Close()
}

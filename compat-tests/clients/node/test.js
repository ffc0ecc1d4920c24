// The Node client, which is the C library behind an event loop: operations, watches, authentication, sessions.
"use strict";

const assert = require("assert");
const { spawn } = require("child_process");
const ZooKeeper = require("zookeeper");

const z = ZooKeeper.constants;
const server = process.argv[2];
const DEADLINE_MS = 20_000;

function within(what, promise) {
    let timer;
    const late = new Promise((_, reject) => {
        timer = setTimeout(() => reject(new Error(`timed out waiting for ${what}`)), DEADLINE_MS);
    });
    return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

function client(options) {
    const zk = new ZooKeeper({ connect: server, timeout: 10_000, debug_level: z.ZOO_LOG_LEVEL_ERROR, ...options });
    const connected = new Promise((resolve) => zk.once("connect", () => resolve(zk)));
    zk.init({});
    return within("a connection", connected);
}

// Resolves with [type, path] when the watch that `arm` sets has fired; `armed` when it is set.
function watch(arm) {
    let fired;
    const event = new Promise((resolve) => {
        fired = (type, _state, path) => resolve([type, path]);
    });
    return { armed: arm(fired), event };
}

const fails = (code, promise) => assert.rejects(promise, (error) => error.message.startsWith(`${code} `));

async function operations(a, b) {
    assert.equal(await a.create("/ops", "1", z.ZOO_PERSISTENT), "/ops");
    await fails(z.ZNODEEXISTS, a.create("/ops", "1", z.ZOO_PERSISTENT));
    await fails(z.ZNONODE, a.create("/none/x", "", z.ZOO_PERSISTENT));
    assert.equal(await a.create("/ops/s-", "", z.ZOO_SEQUENCE), "/ops/s-0000000000");
    assert.equal(await a.create("/ops/c", "", z.ZOO_CONTAINER), "/ops/c");
    assert.equal(await a.create("/ops/t", "", z.ZOO_PERSISTENT_WITH_TTL, 60_000), "/ops/t");
    await a.create("/ops/e", "", z.ZOO_EPHEMERAL);
    await fails(z.ZNOCHILDRENFOREPHEMERALS, a.create("/ops/e/x", "", z.ZOO_PERSISTENT));
    assert.equal((await a.exists("/ops/e", false)).createdInThisSession, true);
    const [stat, data] = await b.get("/ops", false);
    assert.deepEqual([data.toString(), stat.version, stat.numChildren], ["1", 0, 4]);
    assert.equal((await b.set("/ops", "two", 0)).version, 1);
    await fails(z.ZBADVERSION, b.set("/ops", "three", 0));
    assert.deepEqual((await b.get_children("/ops", false)).sort(), ["c", "e", "s-0000000000", "t"]);
    const [children, parent] = await b.get_children2("/ops", false);
    assert.deepEqual([children.length, parent.cversion], [4, 4]);
    await fails(z.ZNONODE, b.exists("/none", false));
    await a.sync("/ops");
    await fails(z.ZNOTEMPTY, a.delete_("/ops", -1));
    await a.delete_("/ops/c", 0);
    await a.getconfig(false);
    await fails(-123, a.reconfig("server.5=127.0.0.1:1:2;3", "", "", -1)); // reconfig is disabled
    // Answers come in the order of the requests.
    const order = [];
    const many = [...Array(500).keys()].map((i) => a.create(`/ops/n${i}`, "", 0).then(() => order.push(i)));
    await within("many answers", Promise.all(many));
    assert.deepEqual(order, [...Array(500).keys()]);
}

async function watches(a, b) {
    await a.create("/w", "", z.ZOO_PERSISTENT);
    const data = watch((fired) => b.w_get("/w", fired));
    const children = watch((fired) => b.w_get_children("/w", fired));
    const exists = watch((fired) => b.w_pathExists("/w/x", fired));
    await Promise.all([data.armed, children.armed, exists.armed]);
    await a.create("/w/x", "", z.ZOO_PERSISTENT);
    await a.set("/w", "1", -1);
    assert.deepEqual(await within("create", exists.event), [z.ZOO_CREATED_EVENT, "/w/x"]);
    assert.deepEqual(await within("child", children.event), [z.ZOO_CHILD_EVENT, "/w"]);
    assert.deepEqual(await within("data", data.event), [z.ZOO_CHANGED_EVENT, "/w"]);
    const gone = watch((fired) => b.w_get("/w/x", fired));
    await gone.armed;
    await a.delete_("/w/x", -1);
    assert.deepEqual(await within("delete", gone.event), [z.ZOO_DELETED_EVENT, "/w/x"]);
}

function addAuth(zk, scheme, auth) {
    return new Promise((resolve, reject) => {
        zk.add_auth(scheme, auth, (rc) => (rc === 0 ? resolve() : reject(new Error(`${rc} add_auth`))));
    });
}

async function authentication(a, b) {
    const zk = await client();
    await addAuth(zk, "digest", "user:secret");
    await zk.create("/secret", "1", z.ZOO_PERSISTENT);
    const id = { scheme: "digest", auth: "user:5w9W4eL3797Y4Wq8AcKUPPk8ha4=", perms: z.ZOO_PERM_ALL };
    await zk.set_acl("/secret", 0, [id]);
    assert.deepEqual((await zk.get_acl("/secret"))[0], [id]);
    await fails(z.ZNOAUTH, b.get("/secret", false));
    await fails(z.ZNOAUTH, b.set("/secret", "2", -1));
    await zk.set("/secret", "2", 0);
    zk.close();
}

// A process dies without a word; this one takes its session over, with id and password.
async function reattach(a, b) {
    const child = spawn(process.execPath, [__filename, server, "die"], { stdio: ["ignore", "pipe", "inherit"] });
    let said = "";
    child.stdout.on("data", (text) => (said += text));
    await within("the child", new Promise((resolve) => child.on("close", resolve)));
    const [client_id, client_password] = said.trim().split(" ");
    const zk = await client({ client_id, client_password });
    assert.equal(zk.client_id, client_id);
    const gone = watch((fired) => b.w_exists("/mine", fired));
    await gone.armed;
    assert.equal((await zk.exists("/mine", false)).createdInThisSession, true);
    zk.close();
    assert.deepEqual(await within("the end of the ephemeral", gone.event), [z.ZOO_DELETED_EVENT, "/mine"]);
}

async function die() {
    const zk = await client();
    await zk.create("/mine", "", z.ZOO_EPHEMERAL);
    process.stdout.write(`${zk.client_id} ${zk.client_password}\n`, () => process.kill(process.pid, "SIGKILL"));
}

async function main() {
    const [a, b] = [await client(), await client()];
    for (const step of [operations, watches, authentication, reattach]) {
        const start = Date.now();
        await step(a, b);
        console.log(`ok ${step.name} (${Date.now() - start} ms)`);
    }
    a.close();
    b.close();
    process.exit(0);
}

(process.argv[3] === "die" ? die() : main()).catch((error) => {
    console.log(error);
    process.exit(1);
});

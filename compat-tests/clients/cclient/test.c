/* The C client: every operation it has, synchronous and not, watches, transactions, authentication. */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <zookeeper/zookeeper.h>

#define DEADLINE_S 20
#define TEXT(s) (s), (int)strlen(s)
#define EQUAL(want, got) equal(__LINE__, #got, (long long)(want), (long long)(got))
#define SAME(want, got) same(__LINE__, #got, want, got)

static void equal(int line, const char *what, long long want, long long got) {
    if (want != got) {
        printf("FAILED line %d: %s: expected %lld (%s), got %lld (%s)\n", line, what, want, zerror((int)want), got,
               zerror((int)got));
        exit(1);
    }
}

static void same(int line, const char *what, const char *want, const char *got) {
    if (strcmp(want, got) != 0) {
        printf("FAILED line %d: %s: expected %s, got %s\n", line, what, want, got);
        exit(1);
    }
}

/* What callbacks leave behind: the last one of each kind, and how many there were. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;

struct seen {
    int count;
    int rc;
    int type, state;
    char text[256];
    struct Stat stat;
};

static void note(struct seen *seen, int rc, const char *text, const struct Stat *stat) {
    pthread_mutex_lock(&lock);
    seen->rc = rc;
    snprintf(seen->text, sizeof seen->text, "%s", text ? text : "");
    if (stat) seen->stat = *stat;
    seen->count++;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

static void await(const char *what, struct seen *seen, int count) {
    struct timespec end;
    clock_gettime(CLOCK_REALTIME, &end);
    end.tv_sec += DEADLINE_S;
    pthread_mutex_lock(&lock);
    while (seen->count < count) {
        if (pthread_cond_timedwait(&changed, &lock, &end) == ETIMEDOUT) {
            printf("FAILED timed out waiting for %s\n", what);
            exit(1);
        }
    }
    pthread_mutex_unlock(&lock);
}

static void on_event(zhandle_t *zh, int type, int state, const char *path, void *context) {
    struct seen *seen = context ? context : (struct seen *)zoo_get_context(zh);
    seen->type = type;
    seen->state = state;
    note(seen, ZOK, path, NULL);
}

/* For handles: only the state counts, and each state on its own. */
struct states {
    struct seen connected, expired, auth_failed;
};

static void on_state(zhandle_t *zh, int type, int state, const char *path, void *context) {
    struct states *states = (struct states *)zoo_get_context(zh);
    (void)path, (void)context;
    if (type != ZOO_SESSION_EVENT) return;
    if (state == ZOO_CONNECTED_STATE) note(&states->connected, ZOK, "", NULL);
    if (state == ZOO_EXPIRED_SESSION_STATE) note(&states->expired, ZOK, "", NULL);
    if (state == ZOO_AUTH_FAILED_STATE) note(&states->auth_failed, ZOK, "", NULL);
}

static void on_void(int rc, const void *data) { note((struct seen *)data, rc, NULL, NULL); }
static void on_stat(int rc, const struct Stat *stat, const void *data) { note((struct seen *)data, rc, NULL, stat); }
static void on_string(int rc, const char *value, const void *data) { note((struct seen *)data, rc, value, NULL); }
static void on_string_stat(int rc, const char *value, const struct Stat *stat, const void *data) {
    note((struct seen *)data, rc, value, stat);
}
static void on_data(int rc, const char *value, int length, const struct Stat *stat, const void *data) {
    char text[256] = "";
    if (rc == ZOK) memcpy(text, value, (size_t)length);
    note((struct seen *)data, rc, text, stat);
}
static void join(const struct String_vector *names, char text[256]) {
    text[0] = 0;
    for (int i = 0; names && i < names->count; i++) {
        strcat(text, names->data[i]);
        strcat(text, " ");
    }
}
static void on_strings(int rc, const struct String_vector *names, const void *data) {
    char text[256];
    join(names, text);
    note((struct seen *)data, rc, text, NULL);
}
static void on_strings_stat(int rc, const struct String_vector *names, const struct Stat *stat, const void *data) {
    char text[256];
    join(names, text);
    note((struct seen *)data, rc, text, stat);
}
static void on_acl(int rc, struct ACL_vector *acl, struct Stat *stat, const void *data) {
    note((struct seen *)data, rc, rc == ZOK ? acl->data[0].id.scheme : "", stat);
}

static zhandle_t *connect_as(const char *server, const clientid_t *id, struct states *states) {
    zhandle_t *zh = zookeeper_init(server, on_state, 10000, id, states, 0);
    if (!zh) {
        perror("FAILED zookeeper_init");
        exit(1);
    }
    await("a connection", &states->connected, 1);
    return zh;
}

static void synchronous(zhandle_t *zh) {
    char text[1024];
    int length = sizeof text;
    struct Stat stat;
    struct String_vector names;
    struct ACL_vector acl;

    EQUAL(ZOK, zoo_create(zh, "/c", TEXT("one"), &ZOO_OPEN_ACL_UNSAFE, 0, text, sizeof text));
    SAME("/c", text);
    EQUAL(ZNODEEXISTS, zoo_create(zh, "/c", TEXT("one"), &ZOO_OPEN_ACL_UNSAFE, 0, text, sizeof text));
    EQUAL(ZNONODE, zoo_create(zh, "/none/c", TEXT(""), &ZOO_OPEN_ACL_UNSAFE, 0, text, sizeof text));
    EQUAL(ZINVALIDACL, zoo_create(zh, "/d", TEXT(""), &(struct ACL_vector){0, NULL}, 0, text, sizeof text));
    EQUAL(ZOK, zoo_create2(zh, "/c/two", TEXT("2"), &ZOO_OPEN_ACL_UNSAFE, 0, text, sizeof text, &stat));
    EQUAL(1, stat.dataLength);
    EQUAL(ZOK, zoo_create(zh, "/c/s-", NULL, -1, &ZOO_OPEN_ACL_UNSAFE, ZOO_SEQUENCE, text, sizeof text));
    SAME("/c/s-0000000001", text);
    EQUAL(ZOK, zoo_create2(zh, "/c/es-", TEXT("e"), &ZOO_OPEN_ACL_UNSAFE, ZOO_EPHEMERAL_SEQUENTIAL, text,
                           sizeof text, &stat));
    SAME("/c/es-0000000002", text);
    EQUAL(zoo_client_id(zh)->client_id, stat.ephemeralOwner);
    EQUAL(ZNOCHILDRENFOREPHEMERALS,
          zoo_create(zh, "/c/es-0000000002/x", TEXT(""), &ZOO_OPEN_ACL_UNSAFE, 0, text, sizeof text));
    EQUAL(ZOK, zoo_create(zh, "/c/container", TEXT(""), &ZOO_OPEN_ACL_UNSAFE, ZOO_CONTAINER, text, sizeof text));
    EQUAL(ZOK, zoo_create_ttl(zh, "/c/ttl", TEXT(""), &ZOO_OPEN_ACL_UNSAFE, ZOO_PERSISTENT_WITH_TTL, 60000, text,
                              sizeof text));
    EQUAL(ZOK, zoo_create2_ttl(zh, "/c/ttl-", TEXT(""), &ZOO_OPEN_ACL_UNSAFE, ZOO_PERSISTENT_SEQUENTIAL_WITH_TTL, 60000,
                               text, sizeof text, &stat));
    SAME("/c/ttl-0000000005", text);

    EQUAL(ZOK, zoo_exists(zh, "/c", 0, &stat));
    EQUAL(6, stat.numChildren);
    EQUAL(ZNONODE, zoo_exists(zh, "/none", 0, &stat));
    EQUAL(ZOK, zoo_get(zh, "/c", 0, text, &length, &stat));
    EQUAL(3, length);
    EQUAL(0, memcmp("one", text, 3));
    length = sizeof text;
    EQUAL(ZOK, zoo_get(zh, "/c/s-0000000001", 0, text, &length, &stat));
    EQUAL(-1, length); /* no data is not empty data */
    EQUAL(ZOK, zoo_set(zh, "/c", TEXT("three"), 0));
    EQUAL(ZBADVERSION, zoo_set(zh, "/c", TEXT("four"), 0));
    EQUAL(ZOK, zoo_set2(zh, "/c", TEXT("five"), -1, &stat));
    EQUAL(2, stat.version);
    EQUAL(ZOK, zoo_get_children(zh, "/c", 0, &names));
    EQUAL(6, names.count);
    deallocate_String_vector(&names);
    EQUAL(ZOK, zoo_get_children2(zh, "/c", 0, &names, &stat));
    EQUAL(6, stat.cversion);
    deallocate_String_vector(&names);
    EQUAL(ZOK, zoo_get_acl(zh, "/c", &acl, &stat));
    EQUAL(1, acl.count);
    SAME("world", acl.data[0].id.scheme);
    EQUAL(ZOO_PERM_ALL, acl.data[0].perms);
    deallocate_ACL_vector(&acl);
    EQUAL(ZOK, zoo_set_acl(zh, "/c/two", 0, &ZOO_OPEN_ACL_UNSAFE));
    EQUAL(ZBADVERSION, zoo_set_acl(zh, "/c/two", 0, &ZOO_READ_ACL_UNSAFE));
    EQUAL(ZOK, zoo_set_acl(zh, "/c/two", 1, &ZOO_READ_ACL_UNSAFE));
    EQUAL(ZNOAUTH, zoo_set(zh, "/c/two", TEXT("no"), -1));
    EQUAL(ZNOTEMPTY, zoo_delete(zh, "/c", -1));
    EQUAL(ZBADVERSION, zoo_delete(zh, "/c/two", 9));
    EQUAL(ZOK, zoo_delete(zh, "/c/two", 0));
    EQUAL(ZNONODE, zoo_delete(zh, "/c/two", -1));
    EQUAL(ZBADARGUMENTS, zoo_create(zh, "relative", TEXT(""), &ZOO_OPEN_ACL_UNSAFE, 0, text, sizeof text));

    length = sizeof text;
    EQUAL(ZOK, zoo_getconfig(zh, 0, text, &length, &stat));
    EQUAL(ZRECONFIGDISABLED, zoo_reconfig(zh, "server.5=127.0.0.1:1:2;3", NULL, NULL, -1, text, &length, &stat));
}

static void asynchronous(zhandle_t *zh) {
    struct seen seen[12];
    memset(seen, 0, sizeof seen);
    /* All in flight before the first answer is looked at. */
    EQUAL(ZOK, zoo_acreate(zh, "/async", TEXT("1"), &ZOO_OPEN_ACL_UNSAFE, 0, on_string, &seen[0]));
    EQUAL(ZOK, zoo_acreate2(zh, "/async/x", TEXT("2"), &ZOO_OPEN_ACL_UNSAFE, 0, on_string_stat, &seen[1]));
    EQUAL(ZOK, zoo_aexists(zh, "/async", 0, on_stat, &seen[2]));
    EQUAL(ZOK, zoo_aset(zh, "/async", TEXT("three"), 0, on_stat, &seen[3]));
    EQUAL(ZOK, zoo_aget(zh, "/async", 0, on_data, &seen[4]));
    EQUAL(ZOK, zoo_aget_children(zh, "/async", 0, on_strings, &seen[5]));
    EQUAL(ZOK, zoo_aget_children2(zh, "/async", 0, on_strings_stat, &seen[6]));
    EQUAL(ZOK, zoo_async(zh, "/async", on_string, &seen[7]));
    EQUAL(ZOK, zoo_aset_acl(zh, "/async", 0, &ZOO_OPEN_ACL_UNSAFE, on_void, &seen[8]));
    EQUAL(ZOK, zoo_aget_acl(zh, "/async", on_acl, &seen[9]));
    EQUAL(ZOK, zoo_adelete(zh, "/async", -1, on_void, &seen[10]));
    EQUAL(ZOK, zoo_agetconfig(zh, 0, on_data, &seen[11]));
    const int rc[12] = {[10] = ZNOTEMPTY};
    for (int i = 0; i < 12; i++) {
        await("an answer", &seen[i], 1);
        EQUAL(rc[i], seen[i].rc);
    }
    SAME("/async", seen[0].text);
    SAME("/async/x", seen[1].text);
    EQUAL(1, seen[2].stat.numChildren);
    EQUAL(1, seen[3].stat.version);
    SAME("three", seen[4].text);
    SAME("x ", seen[5].text);
    SAME("x ", seen[6].text);
    SAME("/async", seen[7].text);
    SAME("world", seen[9].text);
    EQUAL(1, seen[9].stat.aversion);

    struct seen many = {0};
    for (int i = 0; i < 1000; i++) EQUAL(ZOK, zoo_aset(zh, "/async", TEXT("x"), i + 1, on_stat, &many));
    await("a thousand answers", &many, 1000);
    EQUAL(ZOK, many.rc); /* each set names the version the one before it left */
    EQUAL(1001, many.stat.version);
}

static void watches(zhandle_t *mine, zhandle_t *other) {
    struct seen data = {0}, children = {0}, exists = {0}, removed = {0}, answer = {0};
    char text[256];
    int length = sizeof text;
    struct Stat stat;
    struct String_vector names;

    EQUAL(ZOK, zoo_create(other, "/w", TEXT("1"), &ZOO_OPEN_ACL_UNSAFE, 0, NULL, 0));
    EQUAL(ZOK, zoo_wget(mine, "/w", on_event, &data, text, &length, &stat));
    EQUAL(ZOK, zoo_wget_children(mine, "/w", on_event, &children, &names));
    deallocate_String_vector(&names);
    EQUAL(ZNONODE, zoo_wexists(mine, "/w/x", on_event, &exists, &stat));
    EQUAL(ZOK, zoo_create(other, "/w/x", TEXT("1"), &ZOO_OPEN_ACL_UNSAFE, 0, NULL, 0));
    EQUAL(ZOK, zoo_set(other, "/w", TEXT("2"), -1));
    EQUAL(ZOK, zoo_set(other, "/w", TEXT("3"), -1));
    await("a child event", &children, 1);
    await("a create event", &exists, 1);
    await("a data event", &data, 1);
    EQUAL(ZOO_CHILD_EVENT, children.type);
    SAME("/w", children.text);
    EQUAL(ZOO_CREATED_EVENT, exists.type);
    SAME("/w/x", exists.text);
    EQUAL(ZOO_CHANGED_EVENT, data.type);

    EQUAL(ZOK, zoo_wget(mine, "/w/x", on_event, &data, text, &length, &stat));
    EQUAL(ZOK, zoo_delete(other, "/w/x", -1));
    await("a delete event", &data, 2);
    EQUAL(ZOO_DELETED_EVENT, data.type);

    length = sizeof text;
    EQUAL(ZOK, zoo_wget(mine, "/w", on_event, &removed, text, &length, &stat));
    EQUAL(ZOK, zoo_remove_watches(mine, "/w", ZWATCHTYPE_DATA, on_event, &removed, 0));
    EQUAL(ZNOWATCHER, zoo_remove_watches(mine, "/w", ZWATCHTYPE_DATA, on_event, &removed, 0));
    EQUAL(ZOK, zoo_awget_children(mine, "/w", on_event, &children, on_strings, &answer));
    await("an answer", &answer, 1);
    EQUAL(ZOK, zoo_remove_all_watches(mine, "/w", ZWATCHTYPE_ANY, 0));
    /* The C client tells nobody that a watch is gone. */
    EQUAL(ZOK, zoo_set(other, "/w", TEXT("4"), -1));
    EQUAL(ZOK, zoo_create(other, "/w/y", TEXT("1"), &ZOO_OPEN_ACL_UNSAFE, 0, NULL, 0));
    EQUAL(ZOK, zoo_exists(mine, "/w", 0, &stat)); /* an event would come before this answer */
    EQUAL(2, data.count);
    EQUAL(1, children.count);
    EQUAL(0, removed.count);
}

static void transactions(zhandle_t *zh) {
    char a[64], b[64];
    struct Stat stat;
    zoo_op_t ops[5];
    zoo_op_result_t results[5];
    zoo_create_op_init(&ops[0], "/m", TEXT("1"), &ZOO_OPEN_ACL_UNSAFE, 0, a, sizeof a);
    zoo_create_op_init(&ops[1], "/m/s-", TEXT(""), &ZOO_OPEN_ACL_UNSAFE, ZOO_SEQUENCE, b, sizeof b);
    zoo_set_op_init(&ops[2], "/m", TEXT("2"), 0, &stat);
    zoo_check_op_init(&ops[3], "/m", 1);
    zoo_delete_op_init(&ops[4], "/m/s-0000000000", 0);
    EQUAL(ZOK, zoo_multi(zh, 5, ops, results));
    for (int i = 0; i < 5; i++) EQUAL(ZOK, results[i].err);
    SAME("/m/s-0000000000", b);
    EQUAL(1, stat.version);

    zoo_delete_op_init(&ops[0], "/m", -1);
    zoo_check_op_init(&ops[1], "/none", -1);
    zoo_create_op_init(&ops[2], "/m2", TEXT(""), &ZOO_OPEN_ACL_UNSAFE, 0, a, sizeof a);
    EQUAL(ZNONODE, zoo_multi(zh, 3, ops, results));
    EQUAL(ZOK, results[0].err);
    EQUAL(ZNONODE, results[1].err);
    EQUAL(ZRUNTIMEINCONSISTENCY, results[2].err);
    EQUAL(ZOK, zoo_exists(zh, "/m", 0, &stat));
    EQUAL(ZNONODE, zoo_exists(zh, "/m2", 0, &stat));

    struct seen seen = {0};
    zoo_delete_op_init(&ops[0], "/m", 1);
    EQUAL(ZOK, zoo_amulti(zh, 1, ops, results, on_void, &seen));
    await("an answer", &seen, 1);
    EQUAL(ZOK, seen.rc);
}

static void authentication(const char *server, zhandle_t *other) {
    struct states states = {0};
    struct seen seen = {0};
    struct ACL_vector acl;
    struct Stat stat;
    zhandle_t *zh = connect_as(server, NULL, &states);
    EQUAL(ZINVALIDACL, zoo_create(zh, "/secret", TEXT("1"), &ZOO_CREATOR_ALL_ACL, 0, NULL, 0));
    EQUAL(ZOK, zoo_add_auth(zh, "digest", TEXT("user:secret"), on_void, &seen));
    await("authentication", &seen, 1);
    EQUAL(ZOK, seen.rc);
    EQUAL(ZOK, zoo_create(zh, "/secret", TEXT("1"), &ZOO_CREATOR_ALL_ACL, 0, NULL, 0));
    EQUAL(ZOK, zoo_get_acl(zh, "/secret", &acl, &stat));
    SAME("digest", acl.data[0].id.scheme);
    SAME("user:5w9W4eL3797Y4Wq8AcKUPPk8ha4=", acl.data[0].id.id);
    deallocate_ACL_vector(&acl);
    EQUAL(ZNOAUTH, zoo_set(other, "/secret", TEXT("2"), -1));
    EQUAL(ZNOAUTH, zoo_create(other, "/secret/x", TEXT(""), &ZOO_OPEN_ACL_UNSAFE, 0, NULL, 0));
    EQUAL(ZOK, zoo_set(zh, "/secret", TEXT("2"), 0));
    zookeeper_close(zh);

    struct states refused = {0};
    zh = connect_as(server, NULL, &refused);
    memset(&seen, 0, sizeof seen);
    EQUAL(ZOK, zoo_add_auth(zh, "unheardof", TEXT("x"), on_void, &seen));
    await("the refusal", &seen, 1);
    EQUAL(ZAUTHFAILED, seen.rc);
    await("the state", &refused.auth_failed, 1);
    zookeeper_close(zh);
}

/* A process dies without a word; another one takes its session over, with id and password, then closes it. */
static void reattach(const char *server) {
    struct states states = {0}, dead = {0};
    struct Stat stat;
    clientid_t id;
    int ends[2];
    if (pipe(ends) != 0) exit(1);
    if (fork() == 0) { /* no threads yet: this comes first */
        zhandle_t *zh = connect_as(server, NULL, &states);
        EQUAL(ZOK, zoo_create(zh, "/mine", TEXT(""), &ZOO_OPEN_ACL_UNSAFE, ZOO_EPHEMERAL, NULL, 0));
        EQUAL(sizeof id, write(ends[1], zoo_client_id(zh), sizeof id));
        _exit(0);
    }
    close(ends[1]);
    EQUAL(sizeof id, read(ends[0], &id, sizeof id));
    zhandle_t *zh = connect_as(server, &id, &states);
    EQUAL(id.client_id, zoo_client_id(zh)->client_id);
    EQUAL(ZOK, zoo_exists(zh, "/mine", 0, &stat));
    EQUAL(id.client_id, stat.ephemeralOwner);
    zookeeper_close(zh);

    zh = zookeeper_init(server, on_state, 10000, &id, &dead, 0);
    await("expiry", &dead.expired, 1);
    EQUAL(ZINVALIDSTATE, is_unrecoverable(zh));
    zookeeper_close(zh);
    struct states fresh = {0};
    zh = connect_as(server, NULL, &fresh);
    EQUAL(ZNONODE, zoo_exists(zh, "/mine", 0, &stat));
    zookeeper_close(zh);
}

int main(int count, char **arguments) {
    if (count != 2) return 2;
    alarm(100);
    setvbuf(stdout, NULL, _IOLBF, 0);
    zoo_set_debug_level(0);
    reattach(arguments[1]);
    puts("ok reattach");
    struct states mine = {0}, others = {0};
    zhandle_t *zh = connect_as(arguments[1], NULL, &mine);
    zhandle_t *other = connect_as(arguments[1], NULL, &others);
    synchronous(zh);
    puts("ok synchronous");
    asynchronous(zh);
    puts("ok asynchronous");
    watches(zh, other);
    puts("ok watches");
    transactions(zh);
    puts("ok transactions");
    authentication(arguments[1], other);
    puts("ok authentication");
    EQUAL(ZOK, zookeeper_close(zh));
    EQUAL(ZOK, zookeeper_close(other));
    return 0;
}

/* The least work that confirmed mail can cost: what the other rows are measured against.
 *
 * bare LISTENING BROKER COUNT FILE
 *
 * LISTENING is a listening socket, BROKER a connection whose channel 1 confirms, both by descriptor;
 * FILE has COUNT publishes of one length, encoded before: the first recipient's, the second's, ...
 * Each command is answered from memory, each message is published to as many recipients as it
 * has, and 250 follows the broker's last ack. It makes the system calls that a server has to make
 * and does nothing else: it parses, keeps and checks nothing. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    DESCRIPTORS = 65536,
    UNCONFIRMED = 1 << 20, /* publishes at most */
    READ = 256 * 1024,
    ACK = 21, /* octets of its frame */
};

static const char END[5] = "\r\n.\r\n";
#define QUEUED "250 2.0.0 0123456789ABCDEFGHIJKLMNOP rcpt0@example.org\r\n"

struct session {
    int fd, recipients, unconfirmed, in_content;
    char last[sizeof END]; /* octets of the content */
};

static struct session *sessions[DESCRIPTORS];
static struct session *waiting[UNCONFIRMED]; /* by delivery tag */
static uint64_t published, confirmed;        /* delivery tags: the last, the last of a row */

static int epoll, broker, asks_for_room;
static char *publishes; /* from FILE */
static size_t publish_size;
static char *batch; /* leaves when all that has come is read */
static size_t batched, batch_room, batch_sent;

static void die(const char *what) {
    perror(what);
    exit(1);
}

static void say(struct session *to, const char *text, size_t size) {
    if (write(to->fd, text, size) != (ssize_t)size)
        die("write to a client");
}

static void watch(int operation, int fd, uint32_t events) {
    struct epoll_event event = {.events = events, .data = {.fd = fd}};
    if (epoll_ctl(epoll, operation, fd, &event))
        die("epoll_ctl");
}

static void publish(struct session *from) {
    size_t size = publish_size * from->recipients;
    if (batched + size > batch_room) {
        batch_room = 2 * (batched + size);
        batch = realloc(batch, batch_room);
    }
    memcpy(batch + batched, publishes, size);
    batched += size;
    for (int i = 0; i < from->recipients; i++)
        waiting[++published % UNCONFIRMED] = from;
    from->unconfirmed = from->recipients;
    from->recipients = 0;
}

static void flush(void) {
    ssize_t sent = write(broker, batch + batch_sent, batched - batch_sent);
    if (sent < 0 && errno != EAGAIN)
        die("write to the broker");
    if (sent > 0 && (batch_sent += sent) == batched)
        batched = batch_sent = 0;
    if (asks_for_room != (batched > 0)) {
        asks_for_room = batched > 0;
        watch(EPOLL_CTL_MOD, broker, EPOLLIN | (asks_for_room ? EPOLLOUT : 0));
    }
}

static void acked(uint64_t tag) {
    struct session *of = waiting[tag % UNCONFIRMED];
    waiting[tag % UNCONFIRMED] = NULL;
    if (of && --of->unconfirmed == 0)
        say(of, QUEUED, strlen(QUEUED));
}

static void read_broker(void) {
    static uint8_t octets[READ];
    static size_t size;
    size_t at = 0;
    ssize_t came = read(broker, octets + size, sizeof octets - size);
    if (came <= 0)
        die("read from the broker");
    for (size += came; size - at >= ACK; at += ACK) {
        uint8_t *frame = octets + at;
        uint64_t tag = 0;
        if (frame[0] != 1 || memcmp(frame + 7, "\0\x3c\0\x50", 4)) {
            fprintf(stderr, "the broker says something else than Basic.Ack\n");
            exit(1);
        }
        for (int i = 11; i < 19; i++)
            tag = tag << 8 | frame[i];
        if (frame[19] & 1)
            while (confirmed < tag)
                acked(++confirmed);
        else
            acked(tag);
    }
    memmove(octets, octets + at, size -= at);
}

static void read_client(struct session *from) {
    static char octets[READ];
    char out[4096];
    size_t said = 0;
    ssize_t came = read(from->fd, octets, sizeof octets);
    if (came <= 0) {
        close(from->fd);
        free(from);
        return;
    }
    if (from->in_content) {
        size_t kept = came < (ssize_t)sizeof END ? sizeof END - came : 0;
        memmove(from->last, from->last + sizeof END - kept, kept);
        memcpy(from->last + kept, octets + came - (sizeof END - kept), sizeof END - kept);
        if (!memcmp(from->last, END, sizeof END)) {
            from->in_content = 0;
            publish(from);
        }
        return;
    }
    for (char *line = octets, *end; line < octets + came; line = end + 1) {
        const char *reply = "250 2.1.0 Ok, go on\r\n";
        if (!(end = memchr(line, '\n', octets + came - line)))
            die("half a command");
        if (*line == 'Q')
            reply = "221 2.0.0 Bye\r\n";
        if (*line == 'R')
            from->recipients++;
        if (*line == 'D') {
            reply = "354 End with <CRLF>.<CRLF>\r\n";
            from->in_content = 1;
        }
        memcpy(out + said, reply, strlen(reply));
        said += strlen(reply);
    }
    say(from, out, said);
}

static void greet(int listening) {
    int one = 1, fd = accept4(listening, NULL, NULL, SOCK_NONBLOCK);
    if (fd < 0 || fd >= DESCRIPTORS)
        return;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    sessions[fd] = calloc(1, sizeof **sessions);
    sessions[fd]->fd = fd;
    watch(EPOLL_CTL_ADD, fd, EPOLLIN);
    say(sessions[fd], "220 bare\r\n", 10);
}

int main(int count, char **words) {
    struct epoll_event events[1024];
    if (count != 5)
        return 2;
    int listening = atoi(words[1]);
    broker = atoi(words[2]);
    FILE *file = fopen(words[4], "r");
    if (!file || fseek(file, 0, SEEK_END))
        die(words[4]);
    size_t size = ftell(file);
    rewind(file);
    publishes = malloc(size);
    if (fread(publishes, 1, size, file) != size)
        die(words[4]);
    publish_size = size / atoi(words[3]);
    epoll = epoll_create1(0);
    fcntl(broker, F_SETFL, O_NONBLOCK);
    watch(EPOLL_CTL_ADD, listening, EPOLLIN);
    watch(EPOLL_CTL_ADD, broker, EPOLLIN);
    for (;;) {
        int ready = epoll_wait(epoll, events, 1024, -1);
        for (int i = 0; i < ready; i++) {
            int fd = events[i].data.fd;
            if (fd == listening)
                greet(listening);
            else if (fd != broker)
                read_client(sessions[fd]);
            else if (events[i].events & EPOLLIN)
                read_broker();
        }
        if (batched)
            flush();
    }
}

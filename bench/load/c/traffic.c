#define _GNU_SOURCE
#include "traffic.h"

#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "noise.h"
#include "template.h"
#include "text.h"
#include "websocket.h"

/* Hellos and pings. */
enum { MAX_SHORT_BYTES = 1024 };

static uint32_t next_mask(struct run *run) {
    run->mask ^= run->mask << 13;
    run->mask ^= run->mask >> 17;
    run->mask ^= run->mask << 5;
    return run->mask;
}

/* Writes a whole text frame; returns its length. */
static size_t short_frame(struct run *run, char *at, const char *text) {
    size_t bytes = strlen(text);
    if (bytes > MAX_SHORT_BYTES) fail("a ping is too long");
    return ws_write_frame(at, WS_TEXT, text, bytes, next_mask(run));
}

/* What its room has said and it has not heard is no longer waited for. */
static void leave_room(struct run *run, const struct link *link) {
    struct room *room = &run->plan.rooms[link->room];
    for (uint32_t slot = 0; slot < room->publisher_count; slot++)
        run->behind -= (int64_t)(run->plan.publishers[room->first_publisher + slot].published -
                                 link->tracks[slot].last);
    room->open--;
}

void traffic_drop(struct run *run, struct link *link, unsigned close_code) {
    if (run->phase <= PHASE_PROBE)
        fail("the server ended connection %u before the run began, close code %u", link->index, close_code);
    if (link->state == LINK_OPEN) leave_room(run, link);
    run->behind -= (int64_t)link->sent_ns.count;
    if (run->tally.disconnected++ == 0) run->tally.close_code = close_code;
    link_close(link);
}

void traffic_stall(struct run *run) {
    for (size_t i = 0; i < run->plan.link_count; i++) {
        struct link *link = &run->plan.links[i];
        if (link->role != ROLE_STALL) continue;
        leave_room(run, link);
        link_stall(link);
    }
}

void traffic_connect(struct run *run) {
    while (run->begun < run->plan.link_count && run->begun - run->welcomed < run->options.connecting) {
        struct link *link = &run->plan.links[run->begun];
        link->begun_ns = run_elapsed_ns(run);
        int error = link_connect(link, &run->options.address);
        if (error) fail("connection %zu cannot be made: %s", run->begun, strerror(error));
        run->begun++;
    }
}

static void send_request(struct run *run, struct link *link) {
    char request[8192];
    size_t bytes = ws_write_request(request, sizeof request, run->options.host,
                                    (unsigned)run->options.port, link->target);
    if (bytes == 0) fail("the target of connection %u is too long", link->index);
    link->state = LINK_SHAKING;
    if (!link_send(link, request, bytes)) traffic_drop(run, link, 0);
}

/* What the handshake writes is little, and a new socket takes it: only what comes is waited for. */
static void secure(struct run *run, struct link *link) {
    switch (tls_shake(link->tls)) {
        case TLS_STANDS: send_request(run, link); break;
        case TLS_GOES_ON: break;
        case TLS_FAILED: fail("the TLS handshake of connection %u failed", link->index);
    }
}

static void take_connected(struct run *run, struct link *link) {
    int error = link_connected(link);
    if (error) fail("connection %u cannot be made: %s", link->index, strerror(error));
    link_listen(link);
    if (run->tls) {
        link_secure(link, run->tls);
        secure(run, link);
    } else {
        send_request(run, link);
    }
}

static void send_hello(struct run *run, struct link *link) {
    char hello[MAX_SHORT_BYTES], frame[WS_MAX_HEADER_BYTES + MAX_SHORT_BYTES];
    size_t bytes = template_write(hello, sizeof hello, run->options.hello, link->room, link->target);
    if (bytes == 0) fail("the hello of connection %u is too long", link->index);
    bytes = ws_write_frame(frame, WS_TEXT, hello, bytes, next_mask(run));
    if (!link_send(link, frame, bytes)) traffic_drop(run, link, 0);
}

static size_t take_answer(struct run *run, struct link *link, const char *data, size_t bytes) {
    long used = ws_read_answer(data, bytes);
    if (used < 0)
        fail("the handshake of connection %u was refused, HTTP status %d", link->index, atoi(data + 8));
    if (used == 0) return 0;
    link->state = LINK_GREETED;
    if (*run->options.hello) send_hello(run, link);
    return (size_t)used;
}

/* Takes what comes before the connection is in its room. */
static void take_greeting(struct run *run, struct link *link, const struct ws_frame *frame, uint64_t now_ns) {
    run->tally.other_frames++;
    const char *welcome = run->options.welcome;
    if (!memmem(frame->payload, frame->payload_bytes, welcome, strlen(welcome))) return;
    struct room *room = &run->plan.rooms[link->room];
    link->state = LINK_OPEN;
    run->welcomed++;
    room->open++;
    run->unheard += room->publisher_count;
    if (run->options.connect_only) {
        run->window.delivered++;
        histogram_add(&run->window.latency, now_ns - link->begun_ns);
    }
}

static void publish(struct run *run, struct publisher *publisher, uint64_t count, uint64_t sent_ns) {
    size_t text_at = strlen(run->options.prefix), used = 0;
    struct text text = {.publisher = (uint64_t)publisher->link->publisher, .sent_ns = sent_ns};
    bool stands = true;
    if (run->room_at >= 0) template_write_room(run->message + run->room_at, publisher->room);
    for (uint64_t i = 0; i < count; i++) {
        text.sequence = ++publisher->published;
        text_write(run->message + text_at, run->options.message_bytes, &text);
        char *at = run->buffer + used;
        used += ws_write_frame(at, WS_TEXT, run->message, run->message_bytes, next_mask(run));
        bool room_for_more = used + WS_MAX_HEADER_BYTES + run->message_bytes <= TRAFFIC_BUFFER_BYTES;
        if (room_for_more && i + 1 < count) continue;
        stands = stands && link_send(publisher->link, run->buffer, used);
        used = 0;
    }
    run->behind += (int64_t)(count * run->plan.rooms[publisher->room].open);
    if (publisher->observed) run_published(run, sent_ns, count);
    if (!stands) traffic_drop(run, publisher->link, 0);
}

static void ping(struct run *run, struct link *link, uint64_t sent_ns) {
    char frame[WS_MAX_HEADER_BYTES + MAX_SHORT_BYTES];
    queue_put(&link->sent_ns, sent_ns);
    run->behind++;
    run_published(run, sent_ns, 1);
    if (!link_send(link, frame, short_frame(run, frame, run->options.ping))) traffic_drop(run, link, 0);
}

void traffic_send(struct run *run, struct link *link, uint64_t sent_ns) {
    if (link->state != LINK_OPEN) return;
    if (link->role == ROLE_PING) ping(run, link, sent_ns);
    else publish(run, &run->plan.publishers[link->publisher], 1, sent_ns);
}

/* A publisher's own message coming back is the credit for its next one. */
static void top_up_publisher(struct run *run, struct publisher *publisher) {
    struct link *link = publisher->link;
    uint32_t slot = (uint32_t)link->publisher - run->plan.rooms[publisher->room].first_publisher;
    uint64_t outstanding = publisher->published - link->tracks[slot].last;
    if (outstanding < run->options.in_flight)
        publish(run, publisher, run->options.in_flight - outstanding, run_elapsed_ns(run));
}

/* With a rate, only the crowd sends for what comes back. */
static void top_up(struct run *run, struct link *link) {
    if (link->state != LINK_OPEN || (run->options.rate && link->role != ROLE_CROWD)) return;
    if (link->publisher >= 0) top_up_publisher(run, &run->plan.publishers[link->publisher]);
    while (link->role == ROLE_PING && link->state == LINK_OPEN && link->sent_ns.count < run->options.in_flight)
        ping(run, link, run_elapsed_ns(run));
}

void traffic_probe(struct run *run) {
    for (size_t i = 0; i < run->plan.publisher_count; i++)
        publish(run, &run->plan.publishers[i], 1, run_elapsed_ns(run));
}

void traffic_fill(struct run *run) {
    for (size_t i = 0; i < run->plan.link_count; i++) top_up(run, &run->plan.links[i]);
}

/* Whether `text` was published in the room of `link`. */
static bool belongs(const struct plan *plan, const struct link *link, const struct text *text) {
    if (text->publisher >= plan->publisher_count) return false;
    const struct publisher *publisher = &plan->publishers[text->publisher];
    return publisher->room == link->room && 1 <= text->sequence && text->sequence <= publisher->published;
}

static void take_text(struct run *run, struct link *link, const struct text *text, uint64_t now_ns) {
    if (!belongs(&run->plan, link, text)) {
        run->tally.strayed++;
        return;
    }
    struct track *track = &link->tracks[text->publisher - run->plan.rooms[link->room].first_publisher];
    uint64_t last_before = track->last;
    if (track->first == 0) run->unheard--;
    run->arrival_ns = now_ns;
    switch (track_note(track, text->sequence)) {
        case SEEN_DUPLICATE: run->tally.duplicated++; return;
        case SEEN_LATE: run->tally.out_of_order++, run->skipped--; break;
        case SEEN_AHEAD: run->skipped += (int64_t)(text->sequence - last_before - 1); /* fall through */
        case SEEN_NEXT: run->behind -= (int64_t)(text->sequence - last_before); break;
    }
    if (run->plan.publishers[text->publisher].observed) run_delivered(run, text->sent_ns, now_ns);
    else if (run->phase == PHASE_MEASURE) run->window.crowd_delivered++;
}

/* Whether it is the answer to a ping. Answers come in the order of the pings. */
static bool take_pong(struct run *run, struct link *link, const struct ws_frame *frame, uint64_t now_ns) {
    const char *pong = run->options.pong;
    if (link->sent_ns.count == 0 || !memmem(frame->payload, frame->payload_bytes, pong, strlen(pong)))
        return false;
    run->behind--;
    run->arrival_ns = now_ns;
    run_delivered(run, queue_take(&link->sent_ns), now_ns);
    return true;
}

/* Takes what stands in one line of a frame. Servers that send several messages in one frame put each on a line of its
   own; no message holds a newline. */
static void take_line(struct run *run, struct link *link, const char *line, size_t bytes, uint64_t now_ns) {
    struct text text;
    switch (text_find(line, bytes, run->options.message_bytes, &link->hint, &text)) {
        case TEXT_NONE: run->tally.other_frames++; break;
        case TEXT_MALFORMED: run->tally.malformed++; break;
        case TEXT_READ: take_text(run, link, &text, now_ns); break;
    }
}

static void take_message(struct run *run, struct link *link, const struct ws_frame *frame, uint64_t now_ns) {
    if (link->role == ROLE_NOISE) noise_answered(run, link);
    if (link->role == ROLE_PING && take_pong(run, link, frame, now_ns)) return;
    const char *line = frame->payload, *end = line + frame->payload_bytes, *newline;
    while ((newline = memchr(line, '\n', (size_t)(end - line)))) {
        take_line(run, link, line, (size_t)(newline - line), now_ns);
        line = newline + 1;
    }
    take_line(run, link, line, (size_t)(end - line), now_ns);
}

static unsigned close_code(const struct ws_frame *frame) {
    const unsigned char *payload = (const unsigned char *)frame->payload;
    return frame->payload_bytes < 2 ? 0 : (unsigned)payload[0] << 8 | payload[1];
}

/* False: the connection is gone. */
static bool take_frame(struct run *run, struct link *link, const struct ws_frame *frame, uint64_t now_ns) {
    char pong[WS_MAX_HEADER_BYTES + WS_MAX_CONTROL_BYTES];
    if (frame->opcode == WS_CLOSE) {
        traffic_drop(run, link, close_code(frame));
        return false;
    }
    if (frame->opcode == WS_PING && frame->payload_bytes <= WS_MAX_CONTROL_BYTES) {
        size_t bytes = ws_write_frame(pong, WS_PONG, frame->payload, frame->payload_bytes, next_mask(run));
        if (link_send(link, pong, bytes)) return true;
        traffic_drop(run, link, 0);
        return false;
    }
    if (link->state == LINK_GREETED) take_greeting(run, link, frame, now_ns);
    else take_message(run, link, frame, now_ns);
    return true;
}

static bool is_in_conversation(const struct link *link) {
    return link->state == LINK_GREETED || link->state == LINK_OPEN;
}

/* False: nothing new has come, or the connection is gone. */
static bool take_some(struct run *run, struct link *link) {
    long got = link_receive(link, run->buffer, TRAFFIC_BUFFER_BYTES);
    if (got < 0) traffic_drop(run, link, 0);
    if (got <= 0) return false;
    uint64_t now_ns = run_elapsed_ns(run);
    size_t at = 0, total = (size_t)got;
    if (run->phase == PHASE_MEASURE) run->window.received_bytes += total;
    if (link->state == LINK_SHAKING) at = take_answer(run, link, run->buffer, total);
    while (is_in_conversation(link)) {
        struct ws_frame frame;
        long used = ws_read_frame(run->buffer + at, total - at, &frame);
        if (used < 0 || (used == 0 && total - at == TRAFFIC_BUFFER_BYTES)) {
            traffic_drop(run, link, 1002);
            return false;
        }
        if (used == 0) break;
        at += (size_t)used;
        if (!take_frame(run, link, &frame, now_ns)) return false;
    }
    link_carry(link, run->buffer + at, total - at);
    if (run_is_sending(run)) top_up(run, link);
    return link->state != LINK_CLOSED;
}

static void take_readable(struct run *run, struct link *link) {
    while (take_some(run, link) && link_holds_more(link)) continue;
}

void traffic_take(struct run *run, struct link *link, uint32_t events) {
    if (link->state == LINK_CONNECTING) {
        take_connected(run, link);
        return;
    }
    if (link->state == LINK_SECURING) {
        secure(run, link);
        return;
    }
    if ((events & EPOLLOUT) && link->state != LINK_CLOSED && !link_flush(link)) traffic_drop(run, link, 0);
    if ((events & ~(uint32_t)EPOLLOUT) && link->state != LINK_CLOSED) take_readable(run, link);
}

#include "ledger.h"

#include <stdlib.h>
#include <string.h>

static void insert_hole(struct track *track, size_t at, struct hole hole) {
    if (track->hole_count == track->hole_capacity) {
        track->hole_capacity = track->hole_capacity ? track->hole_capacity * 2 : 4;
        track->holes = realloc(track->holes, track->hole_capacity * sizeof *track->holes);
        if (!track->holes) abort();
    }
    memmove(track->holes + at + 1, track->holes + at, (track->hole_count - at) * sizeof *track->holes);
    track->holes[at] = hole;
    track->hole_count++;
}

static void remove_hole(struct track *track, size_t at) {
    track->hole_count--;
    memmove(track->holes + at, track->holes + at + 1, (track->hole_count - at) * sizeof *track->holes);
}

/* A sequence that is not above the highest: it fills a hole, or was here before. */
static enum seen note_old(struct track *track, uint64_t sequence) {
    if (sequence < track->first) return SEEN_LATE;
    /* From the end: what comes late is seldom very late. */
    for (size_t i = track->hole_count; i-- > 0 && track->holes[i].to >= sequence;) {
        struct hole hole = track->holes[i];
        if (sequence < hole.from) continue;
        if (hole.from == hole.to) {
            remove_hole(track, i);
        } else if (sequence == hole.from) {
            track->holes[i].from++;
        } else {
            track->holes[i].to = sequence - 1;
            if (sequence < hole.to) insert_hole(track, i + 1, (struct hole){sequence + 1, hole.to});
        }
        return SEEN_LATE;
    }
    return SEEN_DUPLICATE;
}

enum seen track_note(struct track *track, uint64_t sequence) {
    if (track->first == 0) track->first = sequence, track->last = sequence - 1;
    if (sequence <= track->last) return note_old(track, sequence);
    uint64_t expected = track->last + 1;
    track->last = sequence;
    if (sequence == expected) return SEEN_NEXT;
    insert_hole(track, track->hole_count, (struct hole){expected, sequence - 1});
    return SEEN_AHEAD;
}

uint64_t track_lost(const struct track *track, uint64_t published) {
    uint64_t lost = published - track->last;
    for (size_t i = 0; i < track->hole_count; i++) lost += track->holes[i].to - track->holes[i].from + 1;
    return lost;
}

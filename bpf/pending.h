/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/*
 * The rows of `pending`, and how many of them a pod may have. An application can
 * leave its SYN unanswered (IP_MINTTL, TCP_MD5SIG) for as long as it likes: a pod that
 * filled the map would cost all others their original destinations.
 *
 * The counts are of rows, not of sockets or of what happens to them. Of all
 * programs that see a connection one only can add its row, and one only remove it, as
 * the kernel tells them, and these two count. So it does not matter how a
 * connection ends, which agent's program sees it, or whether its pod is gone.
 */
#ifndef WEIR_PENDING_H
#define WEIR_PENDING_H

#include "maps.h"

/* What the accept queue takes. */
#define WEIR_PENDING_SHARE 4096

/*
 * With half of the map in use, pods have a small share, which hardly any needs: on
 * loopback a row lasts some microseconds, so there are about as many as CPUs. With 110
 * hostile pods there is still room for an honest one.
 */
#define WEIR_PENDING_CROWDED (WEIR_MAX_PENDING / 2)
#define WEIR_PENDING_SMALL_SHARE 192

/* No pod is diverted any more; what remains is for those who have passed the connect hook. */
#define WEIR_PENDING_FULL (WEIR_MAX_PENDING - WEIR_MAX_PENDING / 16)

/* Of one pod, that passed the connect hook together: each saw the row of none of the others. */
#define WEIR_PENDING_TOGETHER 64

static __always_inline __s64 *weir_pending_count(__u32 slot)
{
	return bpf_map_lookup_elem(&pending_counts, &slot);
}

static __always_inline __s64 weir_pending_share(const __s64 *all)
{
	return *all < WEIR_PENDING_CROWDED ? WEIR_PENDING_SHARE : WEIR_PENDING_SMALL_SHARE;
}

/* For the connect hook, which can still leave the connection alone. */
static __always_inline bool weir_pending_has_room(__u64 netns_cookie)
{
	const __s64 *own = weir_pending_count(WEIR_PENDING_SLOT(netns_cookie));
	const __s64 *all = weir_pending_count(WEIR_PENDING_SLOTS);

	return own && all && *all < WEIR_PENDING_FULL && *own < weir_pending_share(all);
}

/* `row` is the one that was found by `key`. Rows of programs that did not count are not in the counts. */
static __always_inline void weir_pending_remove(const struct weir_connection *key, const struct weir_original *row)
{
	__s64 *own = weir_pending_count(WEIR_PENDING_SLOT(key->netns_cookie));
	__s64 *all = weir_pending_count(WEIR_PENDING_SLOTS);
	bool counted = row->role & WEIR_PENDING_COUNTED;

	if (bpf_map_delete_elem(&pending, key) || !counted || !own || !all)
		return;
	__sync_fetch_and_add(own, -1);
	__sync_fetch_and_add(all, -1);
}

/* A row that stands there already is of an earlier connection from the same port, whose end no program saw. */
static __always_inline bool weir_pending_insert(const struct weir_connection *key, const struct weir_original *row)
{
	int error = bpf_map_update_elem(&pending, key, row, BPF_NOEXIST); /* of 32 bits before Linux 6.4 */
	struct weir_original *earlier;

	if (error != -EEXIST)
		return !error;
	earlier = bpf_map_lookup_elem(&pending, key);
	if (earlier)
		weir_pending_remove(key, earlier);
	return !bpf_map_update_elem(&pending, key, row, BPF_NOEXIST);
}

/*
 * Counts first, so that the share holds whatever passed the connect hook how long
 * ago: with TCP_FASTOPEN_CONNECT the SYN leaves with the first data only.
 */
static __always_inline bool weir_pending_add(const struct weir_connection *key, const struct weir_original *original)
{
	__s64 *own = weir_pending_count(WEIR_PENDING_SLOT(key->netns_cookie));
	__s64 *all = weir_pending_count(WEIR_PENDING_SLOTS);
	struct weir_original row = *original;

	if (!own || !all)
		return false;
	row.role |= WEIR_PENDING_COUNTED;
	__sync_fetch_and_add(all, 1);
	if (__sync_fetch_and_add(own, 1) < weir_pending_share(all) + WEIR_PENDING_TOGETHER &&
	    weir_pending_insert(key, &row))
		return true;
	__sync_fetch_and_add(own, -1);
	__sync_fetch_and_add(all, -1);
	return false;
}

#endif /* WEIR_PENDING_H */

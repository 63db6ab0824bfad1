/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/*
 * Every map. Keys, values and their meaning are in weir/bpf_abi.h. All of
 * them are pinned and outlive the agent: a map's layout never changes under its
 * name, since programs of two agents use it during an upgrade.
 */
#ifndef WEIR_MAPS_H
#define WEIR_MAPS_H

#include "kernel.h"
#include "weir/bpf_abi.h"

#define WEIR_MAX_SERVICES 65536 /* service ports; a large cluster has 10,000 services */
#define WEIR_MAX_PODS 4096 /* enrolled pods of one node; kubelet's default limit is 110 */
#define WEIR_MAX_PENDING 65536 /* connections between SYN and established; a pod's share is in pending.h */
#define WEIR_MAX_VERDICTS 65536 /* a pod and a service port each; beyond them nothing more is learned */
#define WEIR_MAX_REDIRECTED 65536 /* connections; beyond them TCP it is */
#define WEIR_MAX_BRAKES 16384 /* of pods and service ports; beyond them weirctl says so */

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, WEIR_MAX_SERVICES);
	__type(key, struct weir_address);
	__type(value, struct weir_service);
} services SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, WEIR_MAX_PODS);
	__type(key, __u64);
	__type(value, struct weir_pod);
} pods SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, WEIR_MAX_VERDICTS);
	__type(key, struct weir_verdict_key);
	__type(value, struct weir_verdict);
} verdicts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, WEIR_MAX_HEARTBEATS);
	__type(key, __u32);
	__type(value, struct weir_heartbeat);
} heartbeats SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct weir_config);
} config SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, WEIR_MAX_BRAKES);
	__type(key, struct weir_brake);
	__type(value, __u32);
} brakes SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, WEIR_STATS);
	__type(key, __u32);
	__type(value, __u64);
} stats SEC(".maps");

/*
 * Never an LRU map: a row that vanished would leave the agent with a connection
 * of which it does not know where it was going.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, WEIR_MAX_PENDING);
	__type(key, struct weir_connection);
	__type(value, struct weir_original);
} pending SEC(".maps");

/* Never one row a pod: what is added to a row that somebody removes may land in another pod's. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, WEIR_PENDING_SLOTS + 1);
	__type(key, __u32);
	__type(value, __s64);
} pending_counts SEC(".maps");

/* Without BPF_F_CLONE both: a socket accepted from a marked listener is not a listener. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct weir_original);
} original SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct weir_mark);
} mark SEC(".maps");

/*
 * Destroying it would drop the bytes that are queued at its sockets; pinned, it
 * outlives every agent. The kernel takes a socket out when it is closed.
 */
struct {
	__uint(type, BPF_MAP_TYPE_SOCKHASH);
	__uint(max_entries, 2 * WEIR_MAX_REDIRECTED);
	__type(key, struct weir_end);
	__type(value, __u64);
} sockets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct weir_redirect);
} redirects SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, WEIR_MAX_REDIRECTED);
	__type(key, struct weir_connection);
	__type(value, struct weir_account);
} accounts SEC(".maps");

/* Slot 0: weir_redirect. A socket keeps the sk_msg program it was added with; what stands here can be swapped. */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} msg_programs SEC(".maps");

static __always_inline void weir_count(__u32 stat)
{
	__u64 *counter = bpf_map_lookup_elem(&stats, &stat);

	if (counter)
		(*counter)++;
}

#endif /* WEIR_MAPS_H */

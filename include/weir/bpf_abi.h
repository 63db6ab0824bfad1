/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/*
 * What the BPF programs and the agent agree on: THE definition of every map's
 * key and value. Compiles as C (BPF) and as C++. Fixed-width fields, explicit
 * padding, sizes asserted, byte order in the name (_be), no bitfields.
 *
 * Two agents of different versions share these maps during an upgrade. A
 * change of layout is a new map name or a new WEIR_ABI_VERSION (the pin path is
 * /sys/fs/bpf/weir/v<N>), never a changed struct.
 */
#ifndef WEIR_BPF_ABI_H
#define WEIR_BPF_ABI_H

/* Kernel style, as in bpf/: */
/* clang-format off */

#ifndef __BPF__
#include <stdint.h>
typedef uint8_t __weir_u8;
typedef uint16_t __weir_u16;
typedef uint32_t __weir_u32;
typedef uint64_t __weir_u64;
#else
typedef __u8 __weir_u8;
typedef __u16 __weir_u16;
typedef __u32 __weir_u32;
typedef __u64 __weir_u64;
#endif

#ifdef __cplusplus
#define WEIR_ASSERT_SIZE(type, size) static_assert(sizeof(struct type) == (size), #type " has a fixed size")
#else
#define WEIR_ASSERT_SIZE(type, size) _Static_assert(sizeof(struct type) == (size), #type " has a fixed size")
#endif

#define WEIR_ABI_VERSION 1

/* Values of weir_service.mode; config::Mode has the same numbers. */
enum weir_mode {
	WEIR_MODE_NONE = 0,
	WEIR_MODE_L7 = 1,
	WEIR_MODE_DETECT = 2,
	WEIR_MODE_TCP = 3,
};

/* A source port below is kept, except towards declared HTTP/2: such connections are not diverted. */
#define WEIR_PRIVILEGED_PORTS 1024

/* An address and port, IPv4 as v4-mapped IPv6. Aligned so that BPF may copy it by words. */
struct weir_address {
	__weir_u8 ip[16];	/* network order */
	__weir_u16 port_be;
	__weir_u8 pad[6];
} __attribute__((aligned(8)));
WEIR_ASSERT_SIZE(weir_address, 24);

/* map `services`: weir_address -> weir_service */
struct weir_service {
	__weir_u32 mode;	/* enum weir_mode */
	__weir_u32 flags;	/* WEIR_SERVICE_* */
	__weir_u64 generation;	/* of the agent that wrote the row */
};
WEIR_ASSERT_SIZE(weir_service, 16);
#define WEIR_SERVICE_LEARNS (1u << 1)	/* what its connections turn out to be may be learned (`verdicts`) */

/*
 * map `verdicts`: weir_verdict_key -> weir_verdict. A pod's connections to that address were not HTTP/2 lately: until
 * then they go the plain way, but for one in so many. Only for services that learn. One pod's connections say
 * nothing about another's. The agent keeps rows whose time is over, as a record of what may have passed by.
 */
struct weir_verdict_key {
	__weir_u64 netns_cookie;
	struct weir_address service;
};
WEIR_ASSERT_SIZE(weir_verdict_key, 32);
struct weir_verdict {
	__weir_u64 expires_ns;	/* bpf_ktime; met within a tick */
	__weir_u64 connections;	/* since it was learned, those diverted as samples included */
	__weir_u32 sample_every;	/* 1: all of them are diverted; 0: none */
	__weir_u32 pad;
};
WEIR_ASSERT_SIZE(weir_verdict, 24);

/* map `pods`: netns cookie (u64) -> weir_pod */
#define WEIR_MAX_EXCLUDED_PORTS 16
struct weir_pod {
	__weir_u64 generation;		/* of the agent that owns the row; equals its listener's mark */
	__weir_u8 pod_ip4[4];		/* for getsockname; zero if none */
	__weir_u8 pod_ip6[16];
	__weir_u16 listener_port_be;
	__weir_u16 excluded_ports_be[WEIR_MAX_EXCLUDED_PORTS];	/* zero-terminated */
	__weir_u8 pad[2];
	__weir_u32 flags;		/* WEIR_POD_* */
	__weir_u16 worker;		/* index of the worker that owns the pod */
	__weir_u16 heartbeat;		/* the worker's slot in `heartbeats` */
};
WEIR_ASSERT_SIZE(weir_pod, 72);
#define WEIR_POD_OBSERVE (1u << 1)	/* count what would be diverted, divert nothing */
#define WEIR_POD_IPV6 (1u << 2)		/* a listener on [::1] exists and ::1 works */
#define WEIR_POD_FAIL_CLOSED (1u << 3)	/* no agent: ECONNREFUSED instead of the plain way */
#define WEIR_POD_REDIRECT (1u << 4)	/* bytes may go past TCP: the row's agent keeps its side of `accounts` */

/*
 * map `heartbeats`: slot -> weir_heartbeat, an array that agents map into their memory. A slot belongs to one worker of
 * the agent whose generation it carries; a pod whose row names a slot of another generation has no living worker.
 */
struct weir_heartbeat {
	__weir_u64 generation;	/* of the agent that claimed the slot; 0: nobody has */
	__weir_u64 beat_ns;	/* bpf_ktime of the worker's last sign of life */
};
WEIR_ASSERT_SIZE(weir_heartbeat, 16);
#define WEIR_MAX_HEARTBEATS 1024

/* map `config`: array of one */
struct weir_config {
	__weir_u32 flags;	/* WEIR_CONFIG_* */
	__weir_u32 pad;
};
WEIR_ASSERT_SIZE(weir_config, 8);
#define WEIR_CONFIG_BYPASS (1u << 0)	/* the global brake */
#define WEIR_CONFIG_BRAKES (1u << 1)	/* there may be rows in `brakes`; without it nobody looks there */

/*
 * map `brakes`: weir_brake -> u32 (1). A pod's (no address) or a service port's (no cookie). Not in their rows, which
 * agents write as a whole: here and in `config` only weirctl writes. Whoever removes the row that a brake is about
 * removes the brake after it.
 */
struct weir_brake {
	__weir_u64 netns_cookie;
	struct weir_address service;
};
WEIR_ASSERT_SIZE(weir_brake, 32);

/* Which end of a diverted connection a socket is; only the client's addresses are dressed up. */
enum weir_role {
	WEIR_ROLE_CLIENT = 1,	/* the application's socket */
	WEIR_ROLE_ACCEPTED = 2,	/* the agent's */
};
#define WEIR_FLOW_REDIRECTED (1u << 31)	/* beside the role, in the records that weir_flows lists */

/* sk_storage `original`: on a diverted client socket and on the accepted socket; value of `pending` in between */
struct weir_original {
	struct weir_address destination;	/* what the application dialled */
	struct weir_address source;	/* what the application sees as its own address; port 0 until the SYN */
	__weir_u64 netns_cookie;
	__weir_u64 diverted_ns;	/* bpf_ktime */
	__weir_u32 mode;	/* enum weir_mode at the time of connect() */
	__weir_u32 role;	/* enum weir_role */
};
WEIR_ASSERT_SIZE(weir_original, 72);

/* map `pending`: weir_connection -> weir_original, from the SYN until the agent's end is established */
struct weir_connection {
	__weir_u64 netns_cookie;
	struct weir_address client;	/* as on the wire: the application's end */
	struct weir_address listener;	/* the agent's end */
};
WEIR_ASSERT_SIZE(weir_connection, 56);
#define WEIR_PENDING_COUNTED (1u << 30)	/* beside the role, in rows of `pending`: they stand in `pending_counts` */

/*
 * map `pending_counts`: array of s64, the counted rows of `pending` by pods: those whose cookies share a slot together;
 * in the last one those of all. A new name for `pending` is a new one for this.
 */
#define WEIR_PENDING_SLOTS 65536
#define WEIR_PENDING_SLOT(netns_cookie) ((netns_cookie) * 0x9e3779b97f4a7c15ull >> 48)

/* map `sockets`: weir_end -> socket; an end of a connection that may be redirected */
struct weir_end {
	struct weir_connection connection;
	__weir_u32 role;	/* enum weir_role */
	__weir_u32 pad;
};
WEIR_ASSERT_SIZE(weir_end, 64);

/* Which way the bytes go that a socket sends. From the redirect a socket may leave for TCP, and never returns. */
enum weir_path {
	WEIR_PATH_UNDECIDED = 0,	/* nothing has been sent */
	WEIR_PATH_TCP = 1,
	WEIR_PATH_REDIRECT = 2,		/* into the receive queue of the other end */
};

/*
 * sk_storage `redirects`: on either end that stands in `sockets`. Sums since the
 * connection began. The agent tells how many bytes it has read, not how many
 * messages: when it has read up to `mark_sent`, it has read `mark_messages`.
 */
struct weir_redirect {
	struct weir_end peer;
	__weir_u64 sent;
	__weir_u64 messages;
	__weir_u64 read;		/* as the agent told when it was last asked */
	__weir_u64 read_messages;	/* at least */
	__weir_u64 mark_sent;
	__weir_u64 mark_messages;
	__weir_u32 path;	/* enum weir_path */
	__weir_u32 pad;
};
WEIR_ASSERT_SIZE(weir_redirect, 120);

/* map `accounts`: weir_connection -> weir_account, of the connections whose applications' bytes are redirected */
struct weir_account {
	__weir_u64 read;	/* by the agent, since the connection began; told at least every WEIR_READ_REPORT bytes */
};
WEIR_ASSERT_SIZE(weir_account, 8);
#define WEIR_READ_REPORT (32u * 1024)

/* sk_storage `mark`: on sockets of the agent */
struct weir_mark {
	__weir_u64 generation;
	__weir_u32 kind;	/* enum weir_mark_kind */
	__weir_u32 pad;
};
WEIR_ASSERT_SIZE(weir_mark, 16);
enum weir_mark_kind {
	WEIR_MARK_LISTENER = 1,
	WEIR_MARK_UPSTREAM = 2,
};

/* map `stats`: per-CPU array of WEIR_STATS u64, counted per connect() unless said otherwise */
#define WEIR_STATS 64	/* room for those to come */
enum weir_stat {
	WEIR_STAT_DIVERTED,
	WEIR_STAT_OBSERVED,		/* would have been diverted (observe) */
	WEIR_STAT_BYPASS_BRAKE,		/* global, pod or service brake */
	WEIR_STAT_BYPASS_NO_LISTENER,	/* agent dead */
	WEIR_STAT_BYPASS_BACKLOG,	/* accept queue full, or the pod's (the node's) share of `pending` used up */
	WEIR_STAT_BYPASS_STALE,		/* no heartbeat for a second: stopped or hung */
	WEIR_STAT_BYPASS_EXCLUDED,	/* excluded port */
	WEIR_STAT_BYPASS_DEVICE,	/* bound to a device */
	WEIR_STAT_BYPASS_MPTCP,
	WEIR_STAT_BYPASS_ERROR,		/* a helper failed */
	WEIR_STAT_REFUSED,		/* fail-closed policy */
	WEIR_STAT_HANDED_OVER,		/* original destination moved to the accepted socket */
	WEIR_STAT_HANDOVER_MISSED,	/* accepted on our listener, nothing pending */
	WEIR_STAT_REDIRECTED,		/* per connection, at the application's first send */
	WEIR_STAT_REDIRECT_TCP,		/* could have been redirected, but stays on TCP; the same moment */
	WEIR_STAT_REDIRECT_OVERRUN,	/* redirected, gone back to TCP: too much was sent that nobody read */
	WEIR_STAT_BYPASS_LEARNED,	/* a learned verdict */
	WEIR_STAT_BYPASS_SOURCE_PORT,	/* bound to a port from which a connection to the listener exists */
	WEIR_STAT_MAX,
};

#endif /* WEIR_BPF_ABI_H */

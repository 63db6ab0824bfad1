/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/*
 * The connect() hooks: may this connection go to the agent, and can the agent
 * take it now? Whenever the answer is not a clear yes, the address is left alone
 * and the connection goes the plain kube-proxy way. Only a pod that asks for it
 * (WEIR_POD_FAIL_CLOSED) is refused instead.
 */
#ifndef WEIR_CONNECT_H
#define WEIR_CONNECT_H

#include <linux/in.h>

#include "address.h"
#include "pending.h"
#include "source_port.h"

enum weir_decision {
	WEIR_REFUSE = 0, /* what a connect hook returns */
	WEIR_PASS = 1,
	WEIR_DIVERT = 2,
};

/* A worker that gave no sign of life for so long is taken for hung. */
const volatile __u64 weir_heartbeat_limit_ns = 1000000000ull;

static __always_inline int weir_without_agent(const struct weir_pod *pod, enum weir_stat reason)
{
	if (!(pod->flags & WEIR_POD_FAIL_CLOSED)) {
		weir_count(reason);
		return WEIR_PASS;
	}
	weir_count(WEIR_STAT_REFUSED);
	bpf_set_retval(-ECONNREFUSED);
	return WEIR_REFUSE;
}

/* Two look-ups that nobody pays for while no pod and no service has a brake. */
static __always_inline bool weir_has_brake(__u64 netns_cookie, const struct weir_address *to)
{
	struct weir_brake of_pod = {.netns_cookie = netns_cookie}, of_service = {.service = *to};

	return bpf_map_lookup_elem(&brakes, &of_pod) || bpf_map_lookup_elem(&brakes, &of_service);
}

static __always_inline bool weir_braked(__u64 netns_cookie, const struct weir_address *to)
{
	__u32 zero = 0;
	struct weir_config *global = bpf_map_lookup_elem(&config, &zero);

	if (!global)
		return false;
	return global->flags & WEIR_CONFIG_BYPASS ||
	       (global->flags & WEIR_CONFIG_BRAKES && weir_has_brake(netns_cookie, to));
}

static __always_inline bool weir_excluded(const struct weir_pod *pod, __u16 port_be)
{
#pragma unroll
	for (int i = 0; i < WEIR_MAX_EXCLUDED_PORTS; i++) {
		if (!pod->excluded_ports_be[i])
			return false;
		if (pod->excluded_ports_be[i] == port_be)
			return true;
	}
	return false;
}

/* Why this connection is not to be diverted even with a healthy agent; WEIR_STAT_DIVERTED: no reason. */
static __always_inline enum weir_stat weir_exempt(struct bpf_sock *sk, const struct weir_pod *pod, __u64 netns_cookie,
						  const struct weir_address *to)
{
	if (weir_braked(netns_cookie, to))
		return WEIR_STAT_BYPASS_BRAKE;
	if (weir_excluded(pod, to->port_be))
		return WEIR_STAT_BYPASS_EXCLUDED;
	if (sk->bound_dev_if) /* a connection to loopback through eth0 would hang */
		return WEIR_STAT_BYPASS_DEVICE;
	if (bpf_skc_to_mptcp_sock(sk)) /* the hook sees the subflow, whose protocol is TCP */
		return WEIR_STAT_BYPASS_MPTCP;
	if (pod->flags & WEIR_POD_OBSERVE)
		return WEIR_STAT_OBSERVED;
	return WEIR_STAT_DIVERTED;
}

/* Is it known that this is not HTTP/2? One connection in so many is looked at all the same. */
static __always_inline bool weir_learned(const struct weir_service *service, const struct weir_address *to,
					 __u64 netns_cookie)
{
	struct weir_verdict_key key = {};
	struct weir_verdict *found;
	__u64 connection;

	if (!(service->flags & WEIR_SERVICE_LEARNS) || service->mode != WEIR_MODE_DETECT)
		return false;
	key.netns_cookie = netns_cookie;
	key.service = *to;
	found = bpf_map_lookup_elem(&verdicts, &key);
	if (!found || (__s64)(found->expires_ns - bpf_ktime_get_coarse_ns()) <= 0)
		return false;
	connection = __sync_fetch_and_add(&found->connections, 1) + 1;
	return !found->sample_every || connection % found->sample_every;
}

/*
 * An open port alone proves nothing: the pod may listen there itself once the
 * agent is dead. Only the agent can mark a socket, and only its current
 * generation counts. A full queue would make the client hang, then time out.
 */
static __always_inline enum weir_stat weir_check_listener(struct bpf_sock *sk, const struct weir_pod *pod)
{
	struct weir_mark *found;
	struct sock *listener;

	if (sk->state != BPF_TCP_LISTEN)
		return WEIR_STAT_BYPASS_NO_LISTENER;
	found = bpf_sk_storage_get(&mark, sk, 0, 0);
	if (!found || found->kind != WEIR_MARK_LISTENER || found->generation != pod->generation)
		return WEIR_STAT_BYPASS_NO_LISTENER;
	listener = (struct sock *)bpf_skc_to_tcp_sock(sk);
	if (!listener)
		return WEIR_STAT_BYPASS_ERROR;
	if (listener->sk_ack_backlog >= listener->sk_max_ack_backlog)
		return WEIR_STAT_BYPASS_BACKLOG;
	return WEIR_STAT_DIVERTED;
}

/* A stopped or hung worker still has open listeners. The clock of another CPU may be ahead. */
static __always_inline bool weir_worker_alive(const struct weir_pod *pod)
{
	__u32 slot = pod->heartbeat;
	struct weir_heartbeat *last = bpf_map_lookup_elem(&heartbeats, &slot);

	return last && last->generation == pod->generation &&
	       (__s64)(bpf_ktime_get_ns() - last->beat_ns) <= (__s64)weir_heartbeat_limit_ns;
}

/* Asks the kernel itself, so that the very next connect() after the agent's death is right. */
static __always_inline enum weir_stat weir_agent_ready(struct bpf_sock_addr *ctx, const struct weir_pod *pod,
						       bool native6)
{
	struct bpf_sock_tuple tuple = {};
	enum weir_stat verdict;
	struct bpf_sock *sk;

	if (native6) {
		if (!(pod->flags & WEIR_POD_IPV6))
			return WEIR_STAT_BYPASS_NO_LISTENER;
		tuple.ipv6.daddr[3] = bpf_htonl(1);
		tuple.ipv6.dport = pod->listener_port_be;
		sk = bpf_sk_lookup_tcp(ctx, &tuple, sizeof(tuple.ipv6), BPF_F_CURRENT_NETNS, 0);
	} else {
		tuple.ipv4.daddr = WEIR_LOOPBACK4;
		tuple.ipv4.dport = pod->listener_port_be;
		sk = bpf_sk_lookup_tcp(ctx, &tuple, sizeof(tuple.ipv4), BPF_F_CURRENT_NETNS, 0);
	}
	if (!sk)
		return WEIR_STAT_BYPASS_NO_LISTENER;
	verdict = weir_check_listener(sk, pod);
	bpf_sk_release(sk);
	if (verdict == WEIR_STAT_DIVERTED && !weir_worker_alive(pod))
		return WEIR_STAT_BYPASS_STALE;
	return verdict;
}

/* The port of the source is not known before the SYN: sockops adds it. */
static __always_inline bool weir_remember(struct bpf_sock *sk, const struct weir_address *to, __u64 netns_cookie,
					  const struct weir_pod *pod, __u32 mode)
{
	struct weir_original *row = bpf_sk_storage_get(&original, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	const __u32 *ip4 = (const __u32 *)pod->pod_ip4, *ip6 = (const __u32 *)pod->pod_ip6;

	if (!row)
		return false;
	row->destination = *to;
	if (!weir_is_mapped(to))
		weir_set_words(&row->source, ip6[0], ip6[1], ip6[2], ip6[3]);
	else if (*ip4)
		weir_set_words(&row->source, 0, 0, WEIR_MAPPED_PREFIX, *ip4);
	row->netns_cookie = netns_cookie;
	row->diverted_ns = bpf_ktime_get_ns();
	row->mode = mode;
	row->role = WEIR_ROLE_CLIENT;
	return true;
}

static __always_inline bool weir_is_upstream(struct bpf_sock *sk)
{
	struct weir_mark *found = bpf_sk_storage_get(&mark, sk, 0, 0);

	return found && found->kind == WEIR_MARK_UPSTREAM;
}

static __always_inline int weir_decide(struct bpf_sock_addr *ctx, const struct weir_address *to, __u16 *port_be)
{
	struct bpf_sock *sk = ctx->sk;
	struct weir_service *service;
	enum weir_stat reason;
	struct weir_pod *pod;
	__u64 netns_cookie;

	if (!sk || ctx->protocol != IPPROTO_TCP)
		return WEIR_PASS;
	/* A diverted connect() that failed may be followed by a direct one on the same socket. To look first is
	 * cheaper. */
	if (bpf_sk_storage_get(&original, sk, 0, 0))
		bpf_sk_storage_delete(&original, sk);
	netns_cookie = bpf_get_netns_cookie(ctx);
	pod = bpf_map_lookup_elem(&pods, &netns_cookie);
	if (!pod || weir_is_loopback(to))
		return WEIR_PASS;
	service = bpf_map_lookup_elem(&services, to);
	if (!service || service->mode == WEIR_MODE_NONE || weir_is_upstream(sk))
		return WEIR_PASS;
	reason = weir_exempt(sk, pod, netns_cookie, to);
	if (reason != WEIR_STAT_DIVERTED) {
		weir_count(reason);
		return WEIR_PASS;
	}
	if (weir_privileged(sk, service)) {
		weir_count(WEIR_STAT_BYPASS_SOURCE_PORT);
		return WEIR_PASS;
	}
	/* A pod that wants no connection without an agent has none pass by it. */
	if (!(pod->flags & WEIR_POD_FAIL_CLOSED) && weir_learned(service, to, netns_cookie)) {
		weir_count(WEIR_STAT_BYPASS_LEARNED);
		return WEIR_PASS;
	}
	reason = weir_agent_ready(ctx, pod, !weir_is_mapped(to));
	if (reason != WEIR_STAT_DIVERTED)
		return weir_without_agent(pod, reason);
	if (weir_source_port_taken(ctx, sk, pod, !weir_is_mapped(to)))
		return weir_without_agent(pod, WEIR_STAT_BYPASS_SOURCE_PORT);
	if (!weir_pending_has_room(netns_cookie))
		return weir_without_agent(pod, WEIR_STAT_BYPASS_BACKLOG);
	if (!weir_remember(sk, to, netns_cookie, pod, service->mode))
		return weir_without_agent(pod, WEIR_STAT_BYPASS_ERROR);
	weir_count(WEIR_STAT_DIVERTED);
	*port_be = pod->listener_port_be;
	return WEIR_DIVERT;
}

static __always_inline int weir_redial4(struct bpf_sock_addr *ctx, __u16 port_be)
{
	ctx->user_ip4 = WEIR_LOOPBACK4;
	ctx->user_port = port_be;
	return WEIR_PASS;
}

/* A v4-mapped destination stays v4-mapped, since the listener that answers is the IPv4 one. */
static __always_inline int weir_redial6(struct bpf_sock_addr *ctx, const struct weir_address *to, __u16 port_be)
{
	bool mapped = weir_is_mapped(to);

	ctx->user_ip6[0] = 0;
	ctx->user_ip6[1] = 0;
	ctx->user_ip6[2] = mapped ? WEIR_MAPPED_PREFIX : 0;
	ctx->user_ip6[3] = mapped ? WEIR_LOOPBACK4 : bpf_htonl(1);
	ctx->user_port = port_be;
	return WEIR_PASS;
}

#endif /* WEIR_CONNECT_H */

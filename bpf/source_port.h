/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/*
 * Sockets that are bound to a source port before they connect: can this one be
 * diverted, or does another one's connection stand in its way?
 */
#ifndef WEIR_SOURCE_PORT_H
#define WEIR_SOURCE_PORT_H

#include "address.h"

/*
 * The address of the socket's own end once it is diverted: the one that it is
 * bound to, else loopback. Of an AF_INET6 socket only src_ip6 means something.
 */
static __always_inline void weir_own_end(struct bpf_sock *sk, bool native6, struct weir_address *own)
{
	if (weir_load(sk->family) == AF_INET6)
		weir_set_words(own, weir_load(sk->src_ip6[0]), weir_load(sk->src_ip6[1]), weir_load(sk->src_ip6[2]),
			       weir_load(sk->src_ip6[3]));
	else
		weir_set_words(own, 0, 0, WEIR_MAPPED_PREFIX, weir_load(sk->src_ip4));
	if (native6 && weir_is_unset(own))
		weir_set_words(own, 0, 0, 0, bpf_htonl(1));
	else if (!native6 && !weir_word(own, 3))
		weir_set_words(own, 0, 0, WEIR_MAPPED_PREFIX, WEIR_LOOPBACK4);
}

/*
 * Servers of old trust a client by its port below 1024 (rsh, LPD, NFS): the agent's
 * would be another one. HTTP/2 servers don't look.
 */
static __always_inline bool weir_privileged(struct bpf_sock *sk, const struct weir_service *service)
{
	__u32 port = weir_load(sk->src_port);

	return service->mode != WEIR_MODE_L7 && port && port < WEIR_PRIVILEGED_PORTS;
}

/*
 * Sockets bound to one port (SO_REUSEADDR) may dial one service each, but not
 * the listener both: the second would get EADDRNOTAVAIL. Whatever holds the way
 * to the listener counts, TIME_WAIT too; seen from there, as look-ups are.
 */
static __always_inline bool weir_source_port_taken(struct bpf_sock_addr *ctx, struct bpf_sock *sk,
						   const struct weir_pod *pod, bool native6)
{
	__u32 port = weir_load(sk->src_port);
	struct bpf_sock_tuple tuple = {};
	struct weir_address own;
	struct bpf_sock *found;
	bool taken;

	if (!port)
		return false;
	weir_own_end(sk, native6, &own);
	if (native6) {
		tuple.ipv6.saddr[3] = bpf_htonl(1);
		tuple.ipv6.sport = pod->listener_port_be;
		tuple.ipv6.daddr[0] = weir_word(&own, 0);
		tuple.ipv6.daddr[1] = weir_word(&own, 1);
		tuple.ipv6.daddr[2] = weir_word(&own, 2);
		tuple.ipv6.daddr[3] = weir_word(&own, 3);
		tuple.ipv6.dport = bpf_htons(port);
		found = bpf_skc_lookup_tcp(ctx, &tuple, sizeof(tuple.ipv6), BPF_F_CURRENT_NETNS, 0);
	} else {
		tuple.ipv4.saddr = WEIR_LOOPBACK4;
		tuple.ipv4.sport = pod->listener_port_be;
		tuple.ipv4.daddr = weir_word(&own, 3);
		tuple.ipv4.dport = bpf_htons(port);
		found = bpf_skc_lookup_tcp(ctx, &tuple, sizeof(tuple.ipv4), BPF_F_CURRENT_NETNS, 0);
	}
	if (!found)
		return false;
	taken = found->state != BPF_TCP_LISTEN; /* a server of the pod on that port is in nobody's way */
	bpf_sk_release(found);
	return taken;
}

#endif /* WEIR_SOURCE_PORT_H */

/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/*
 * The hand-over: the original destination travels from the client's socket to
 * the accepted one. `pending` holds it from the SYN (the first moment at which the
 * source port is known) until the agent's end is established, and no longer,
 * however the connection ends. And `weir_flows`, the list of live diverted
 * connections, which needs no map of its own.
 */
#ifndef WEIR_SOCKOPS_H
#define WEIR_SOCKOPS_H

#include "address.h"
#include "pending.h"
#include "redirect.h"

/*
 * Both ends of a socket in the canonical form: the client of a v4-mapped
 * connection is AF_INET6, the socket accepted from it AF_INET.
 */
static __always_inline void weir_ends(struct bpf_sock_ops *ops, struct weir_address *local, struct weir_address *remote)
{
	if (weir_load(ops->family) == AF_INET6) {
		weir_set_words(local, weir_load(ops->local_ip6[0]), weir_load(ops->local_ip6[1]),
			       weir_load(ops->local_ip6[2]), weir_load(ops->local_ip6[3]));
		weir_set_words(remote, weir_load(ops->remote_ip6[0]), weir_load(ops->remote_ip6[1]),
			       weir_load(ops->remote_ip6[2]), weir_load(ops->remote_ip6[3]));
	} else {
		weir_set_words(local, 0, 0, WEIR_MAPPED_PREFIX, weir_load(ops->local_ip4));
		weir_set_words(remote, 0, 0, WEIR_MAPPED_PREFIX, weir_load(ops->remote_ip4));
	}
	weir_set_port(local, bpf_htons(weir_load(ops->local_port)));
	weir_set_port(remote, bpf_htons(bpf_ntohl(weir_load(ops->remote_port))));
}

static __always_inline void weir_before_syn(struct bpf_sock_ops *ops)
{
	struct weir_original *row = weir_client(ops->sk);
	struct weir_connection key;

	if (!row)
		return;
	weir_ends(ops, &key.client, &key.listener);
	key.netns_cookie = row->netns_cookie;
	if (weir_is_unset(&row->source) || !weir_is_loopback(&key.client))
		row->source = key.client;
	row->source.port_be = key.client.port_be;
	if (!weir_pending_add(&key, row))
		return; /* no room left since the connect hook: a missed hand-over */
	bpf_sock_ops_cb_flags_set(ops, ops->bpf_sock_ops_cb_flags | BPF_SOCK_OPS_STATE_CB_FLAG);
}

static __always_inline void weir_client_established(struct bpf_sock_ops *ops)
{
	struct bpf_sock *sk = ops->sk;
	struct weir_original *row = weir_client(sk);
	struct weir_connection connection;

	if (!row || !weir_may_redirect(row) || weir_blocks(sk))
		return;
	weir_ends(ops, &connection.client, &connection.listener);
	connection.netns_cookie = row->netns_cookie;
	weir_add_end(ops, sk, &connection, WEIR_ROLE_CLIENT);
}

/* Refused, timed out or never accepted: nobody else would take the row away. */
static __always_inline void weir_state(struct bpf_sock_ops *ops)
{
	struct weir_original *row, *waiting;
	struct weir_connection key;
	struct bpf_sock *sk;

	if (ops->args[1] != BPF_TCP_CLOSE)
		return;
	sk = ops->sk;
	row = weir_client(sk);
	if (!row)
		return;
	weir_close_end(sk);
	weir_ends(ops, &key.client, &key.listener);
	key.netns_cookie = row->netns_cookie;
	waiting = bpf_map_lookup_elem(&pending, &key);
	/* The port may already carry the next connection. */
	if (waiting && waiting->diverted_ns == row->diverted_ns)
		weir_pending_remove(&key, waiting);
}

/* Runs with the child locked, so before any accept() can return it. */
static __always_inline void weir_established(struct bpf_sock_ops *ops)
{
	struct weir_original *waiting, *row;
	struct bpf_sock *sk = ops->sk;
	struct weir_connection key;
	struct weir_pod *pod;

	weir_ends(ops, &key.listener, &key.client);
	if (!sk || !weir_is_loopback(&key.listener))
		return;
	key.netns_cookie = bpf_get_netns_cookie(ops);
	waiting = bpf_map_lookup_elem(&pending, &key);
	if (!waiting) {
		pod = bpf_map_lookup_elem(&pods, &key.netns_cookie);
		if (pod && pod->listener_port_be == key.listener.port_be)
			weir_count(WEIR_STAT_HANDOVER_MISSED);
		return;
	}
	row = bpf_sk_storage_get(&original, sk, waiting, BPF_SK_STORAGE_GET_F_CREATE);
	if (row) {
		row->role = WEIR_ROLE_ACCEPTED;
		if (weir_may_redirect(row))
			weir_add_end(ops, sk, &key, WEIR_ROLE_ACCEPTED);
	}
	weir_pending_remove(&key, waiting);
	weir_count(row ? WEIR_STAT_HANDED_OVER : WEIR_STAT_HANDOVER_MISSED);
}

static __always_inline void weir_write_flow(struct bpf_iter__bpf_sk_storage_map *ctx)
{
	struct weir_original *value = ctx->value, row;
	struct weir_redirect *redirect;
	struct sock *sk = ctx->sk;

	if (!sk || !value || value->role != WEIR_ROLE_CLIENT || sk->__sk_common.skc_state == BPF_TCP_CLOSE)
		return;
	row = *value;
	redirect = bpf_sk_storage_get(&redirects, sk, 0, 0);
	if (redirect && redirect->path == WEIR_PATH_REDIRECT)
		row.role |= WEIR_FLOW_REDIRECTED;
	bpf_seq_write(ctx->meta->seq, &row, sizeof(row));
}

#endif /* WEIR_SOCKOPS_H */

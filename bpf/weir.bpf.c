// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
/*
 * Table of contents: every program, in the order in which a connection meets
 * them. What they do is in the headers.
 */
#include "address.h"
#include "connect.h"
#include "kernel.h"
#include "maps.h"
#include "redirect.h"
#include "sockops.h"

char LICENSE[] SEC("license") = "GPL";

/* connect(): divert to the pod's loopback listener, or leave alone. */
SEC("cgroup/connect4")
int weir_connect4(struct bpf_sock_addr *ctx)
{
	struct weir_address to;
	__u16 port_be = 0;
	int verdict;

	weir_get4(ctx, &to);
	verdict = weir_decide(ctx, &to, &port_be);
	return verdict == WEIR_DIVERT ? weir_redial4(ctx, port_be) : verdict;
}

SEC("cgroup/connect6")
int weir_connect6(struct bpf_sock_addr *ctx)
{
	struct weir_address to;
	__u16 port_be = 0;
	int verdict;

	weir_get6(ctx, &to);
	verdict = weir_decide(ctx, &to, &port_be);
	return verdict == WEIR_DIVERT ? weir_redial6(ctx, &to, port_be) : verdict;
}

/* SYN, established, closed: the original destination goes to the accepted socket. */
SEC("sockops")
int weir_sockops(struct bpf_sock_ops *ops)
{
	if (ops->op == BPF_SOCK_OPS_TCP_CONNECT_CB)
		weir_before_syn(ops);
	else if (ops->op == BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB)
		weir_client_established(ops);
	else if (ops->op == BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB)
		weir_established(ops);
	else if (ops->op == BPF_SOCK_OPS_STATE_CB)
		weir_state(ops);
	return 1;
}

/* A send on either end of a connection that may be redirected past TCP. */
SEC("sk_msg")
int weir_msg(struct sk_msg_md *msg)
{
	bpf_tail_call(msg, &msg_programs, 0);
	return SK_PASS; /* the slot is empty: TCP */
}

SEC("sk_msg")
int weir_redirect(struct sk_msg_md *msg)
{
	return weir_send(msg);
}

/* The addresses that the application sees. */
SEC("cgroup/getpeername4")
int weir_getpeername4(struct bpf_sock_addr *ctx)
{
	weir_show_destination4(ctx);
	return 1;
}

SEC("cgroup/getpeername6")
int weir_getpeername6(struct bpf_sock_addr *ctx)
{
	weir_show_destination6(ctx);
	return 1;
}

SEC("cgroup/getsockname4")
int weir_getsockname4(struct bpf_sock_addr *ctx)
{
	weir_show_source4(ctx);
	return 1;
}

SEC("cgroup/getsockname6")
int weir_getsockname6(struct bpf_sock_addr *ctx)
{
	weir_show_source6(ctx);
	return 1;
}

/* Read from its pin: the live diverted connections, as records of struct weir_original. */
SEC("iter/bpf_sk_storage_map")
int weir_flows(struct bpf_iter__bpf_sk_storage_map *ctx)
{
	weir_write_flow(ctx);
	return 0;
}

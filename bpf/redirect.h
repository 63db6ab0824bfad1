/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/*
 * Redirect: what one end of a diverted connection sends goes straight into the
 * receive queue of the other, past TCP. Order is all that matters here:
 *
 * The receiver reads redirected bytes before those that came by TCP. So a socket
 * that has ever sent by TCP never redirects, and one that redirects may fall back
 * to TCP at any message (the peer gone, the slot empty), but not return.
 *
 * A socket in a sockmap that blocks in recv() may return EAGAIN from there: the kernel (as of 6.18) takes any
 * wake-up without data, such as room to send, for a timeout. So an application that waits for its connect()
 * stays with TCP.
 *
 * There is no backpressure, so only HTTP/2, whose windows bound it, is redirected:
 * the application's first message decides, and the agent's end follows. An account
 * sends an application that is far ahead of the agent back to TCP, which makes it
 * wait; what the agent sends is bounded by the agent itself.
 */
#ifndef WEIR_REDIRECT_H
#define WEIR_REDIRECT_H

#include "address.h"

/* Off: this kernel or its operator wants no redirect, and nothing of it is used. */
const volatile __u8 weir_redirect_enabled = 1; /* no bool: not every C++ compiler takes the skeleton's _Bool */

/*
 * Of the kernel's memory, for what an application sent and the agent did not read.
 * Twice the connection window that the agent grants: all of that may be used before the
 * agent has its turn, with headers on top.
 */
const volatile __u64 weir_overrun_cost = 8ull << 20;

/* A queued message's struct sk_msg. */
#define WEIR_MESSAGE_COST 1024

#define WEIR_PREFACE_SIZE 24

/* Whether the pod's row lets its connections, dialled at a port of this mode, be redirected. */
static __always_inline bool weir_may_redirect(const struct weir_original *row)
{
	struct weir_pod *pod;

	if (!weir_redirect_enabled || row->mode != WEIR_MODE_L7)
		return false;
	pod = bpf_map_lookup_elem(&pods, &row->netns_cookie);
	return pod && pod->flags & WEIR_POD_REDIRECT;
}

/* Whether the calls on the socket wait in the kernel. */
static __always_inline bool weir_blocks(struct bpf_sock *sk)
{
	struct sock *kernel_sk = (struct sock *)bpf_skc_to_tcp_sock(sk);

	return !kernel_sk || !(kernel_sk->sk_socket->file->f_flags & O_NONBLOCK);
}

/* Puts the socket of an ESTABLISHED callback into `sockets`; the storage first, since then sends may come. */
static __always_inline void weir_add_end(struct bpf_sock_ops *ops, struct bpf_sock *sk,
					 const struct weir_connection *connection, __u32 role)
{
	struct weir_end end = {.connection = *connection, .role = role};
	struct weir_redirect *row = bpf_sk_storage_get(&redirects, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);

	if (!row)
		return;
	row->peer.connection = *connection;
	row->peer.role = role == WEIR_ROLE_CLIENT ? WEIR_ROLE_ACCEPTED : WEIR_ROLE_CLIENT;
	bpf_sock_hash_update(ops, &sockets, &end, BPF_ANY);
}

/* Also data that TCP Fast Open, or a send() that waited for the connection, brought before any program ran. */
static __always_inline bool weir_sent_by_tcp(struct bpf_sock *sk)
{
	struct tcp_sock *tcp = bpf_skc_to_tcp_sock(sk);

	return !tcp || tcp->bytes_sent || tcp->write_seq != tcp->snd_una;
}

static __always_inline bool weir_has_preface(struct sk_msg_md *msg)
{
	__u64 *words;

	if (bpf_msg_pull_data(msg, 0, WEIR_PREFACE_SIZE, 0))
		return false; /* shorter, or no memory */
	words = msg->data;
	if ((void *)words + WEIR_PREFACE_SIZE > msg->data_end)
		return false;
	return words[0] == *(const __u64 *)"PRI * HT" && words[1] == *(const __u64 *)"TP/2.0\r\n" &&
	       words[2] == *(const __u64 *)"\r\nSM\r\n\r\n";
}

/*
 * Whether the bytes of this socket's first message may be redirected. The
 * application's decide, and their account tells the agent and its socket what was
 * decided: both come later, since the agent speaks after it has read the preface.
 */
static __always_inline bool weir_wants_redirect(struct sk_msg_md *msg, const struct weir_redirect *row)
{
	struct weir_account none = {};

	if (row->peer.role == WEIR_ROLE_CLIENT)
		return bpf_map_lookup_elem(&accounts, &row->peer.connection);
	return weir_has_preface(msg) && !bpf_map_update_elem(&accounts, &row->peer.connection, &none, BPF_ANY);
}

static __always_inline __u64 weir_held(const struct weir_redirect *row)
{
	return row->sent - row->read + (row->messages - row->read_messages) * WEIR_MESSAGE_COST;
}

/*
 * Charges a message to the application; false: it is too far ahead of the agent. The
 * agent's word is looked up only when a part of the limit is used.
 */
static __always_inline bool weir_charge(struct weir_redirect *row, __u32 size)
{
	struct weir_account *account;

	row->sent += size;
	row->messages++;
	if (weir_held(row) <= weir_overrun_cost / 4)
		return true;
	account = bpf_map_lookup_elem(&accounts, &row->peer.connection);
	if (account)
		row->read = account->read;
	if (row->read >= row->mark_sent) {
		row->read_messages = row->mark_messages;
		row->mark_sent = row->sent;
		row->mark_messages = row->messages;
	}
	return weir_held(row) <= weir_overrun_cost;
}

static __always_inline void weir_take_path(struct weir_redirect *row, enum weir_path path)
{
	bool of_application = row->peer.role == WEIR_ROLE_ACCEPTED;

	if (of_application && row->path == WEIR_PATH_UNDECIDED)
		weir_count(path == WEIR_PATH_REDIRECT ? WEIR_STAT_REDIRECTED : WEIR_STAT_REDIRECT_TCP);
	if (of_application && path == WEIR_PATH_TCP)
		bpf_map_delete_elem(&accounts, &row->peer.connection);
	row->path = path;
}

static __always_inline int weir_send(struct sk_msg_md *msg)
{
	struct bpf_sock *sk = msg->sk;
	struct weir_redirect *row;

	row = sk ? bpf_sk_storage_get(&redirects, sk, 0, 0) : 0;
	if (!row || row->path == WEIR_PATH_TCP)
		return SK_PASS;
	if (weir_sent_by_tcp(sk) || (row->path == WEIR_PATH_UNDECIDED && !weir_wants_redirect(msg, row))) {
		weir_take_path(row, WEIR_PATH_TCP);
		return SK_PASS;
	}
	if (row->peer.role == WEIR_ROLE_ACCEPTED && !weir_charge(row, msg->size)) {
		weir_count(WEIR_STAT_REDIRECT_OVERRUN);
		weir_take_path(row, WEIR_PATH_TCP);
		return SK_PASS;
	}
	/* What misses its peer goes by TCP: a verdict of SK_DROP would stick to the socket. */
	if (bpf_msg_redirect_hash(msg, &sockets, &row->peer, BPF_F_INGRESS) != SK_PASS)
		weir_take_path(row, WEIR_PATH_TCP);
	else if (row->path == WEIR_PATH_UNDECIDED)
		weir_take_path(row, WEIR_PATH_REDIRECT);
	return SK_PASS;
}

/* The application's socket is closed; it may be connected once more. */
static __always_inline void weir_close_end(struct bpf_sock *sk)
{
	struct weir_redirect *row = bpf_sk_storage_get(&redirects, sk, 0, 0);

	if (!row)
		return;
	if (row->path == WEIR_PATH_REDIRECT)
		bpf_map_delete_elem(&accounts, &row->peer.connection);
	bpf_sk_storage_delete(&redirects, sk);
}

#endif /* WEIR_REDIRECT_H */

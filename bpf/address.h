/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/*
 * Addresses in the canonical form (IPv4 as ::ffff:a.b.c.d), and the getpeername
 * and getsockname hooks: an application sees the address that it dialled and its
 * pod's IP, never the loopback listener.
 */
#ifndef WEIR_ADDRESS_H
#define WEIR_ADDRESS_H

#include "maps.h"

/*
 * Reads a context field at once, as it stands. Otherwise clang merges the loads
 * of several branches into one through a computed pointer, and the verifier
 * refuses a modified context pointer.
 */
#define weir_load(field)                         \
	({                                       \
		__u32 value_ = (field);          \
		asm volatile("" : "+r"(value_)); \
		value_;                          \
	})

#define WEIR_MAPPED_PREFIX bpf_htonl(0xffff)
#define WEIR_LOOPBACK4 bpf_htonl(0x7f000001)

static __always_inline void weir_set_words(struct weir_address *to, __u32 a, __u32 b, __u32 c, __u32 d)
{
	__u32 *words = (__u32 *)to->ip;

	words[0] = a;
	words[1] = b;
	words[2] = c;
	words[3] = d;
}

static __always_inline __u32 weir_word(const struct weir_address *address, int index)
{
	return ((const __u32 *)address->ip)[index];
}

static __always_inline void weir_set_port(struct weir_address *to, __u16 port_be)
{
	to->port_be = port_be;
	__builtin_memset(to->pad, 0, sizeof(to->pad));
}

static __always_inline bool weir_is_mapped(const struct weir_address *address)
{
	return !weir_word(address, 0) && !weir_word(address, 1) && weir_word(address, 2) == WEIR_MAPPED_PREFIX;
}

static __always_inline bool weir_is_unset(const struct weir_address *address)
{
	return !(weir_word(address, 0) | weir_word(address, 1) | weir_word(address, 2) | weir_word(address, 3));
}

/* 127.0.0.0/8 or ::1 */
static __always_inline bool weir_is_loopback(const struct weir_address *address)
{
	if (weir_is_mapped(address))
		return address->ip[12] == 127;
	return !weir_word(address, 0) && !weir_word(address, 1) && !weir_word(address, 2) &&
	       weir_word(address, 3) == bpf_htonl(1);
}

/* The address that a sock_addr hook was called with. */
static __always_inline void weir_get4(struct bpf_sock_addr *ctx, struct weir_address *to)
{
	weir_set_words(to, 0, 0, WEIR_MAPPED_PREFIX, weir_load(ctx->user_ip4));
	weir_set_port(to, weir_load(ctx->user_port));
}

static __always_inline void weir_get6(struct bpf_sock_addr *ctx, struct weir_address *to)
{
	weir_set_words(to, weir_load(ctx->user_ip6[0]), weir_load(ctx->user_ip6[1]), weir_load(ctx->user_ip6[2]),
		       weir_load(ctx->user_ip6[3]));
	weir_set_port(to, weir_load(ctx->user_port));
}

static __always_inline void weir_put6(struct bpf_sock_addr *ctx, const struct weir_address *from)
{
	ctx->user_ip6[0] = weir_word(from, 0);
	ctx->user_ip6[1] = weir_word(from, 1);
	ctx->user_ip6[2] = weir_word(from, 2);
	ctx->user_ip6[3] = weir_word(from, 3);
}

/* The getpeername hooks also run inside the agent's accept(), whose socket carries storage too. */
static __always_inline struct weir_original *weir_client(struct bpf_sock *sk)
{
	struct weir_original *row = sk ? bpf_sk_storage_get(&original, sk, 0, 0) : 0;

	return row && row->role == WEIR_ROLE_CLIENT ? row : 0;
}

static __always_inline void weir_show_destination4(struct bpf_sock_addr *ctx)
{
	struct weir_original *row = weir_client(ctx->sk);

	if (!row)
		return;
	ctx->user_ip4 = weir_word(&row->destination, 3);
	ctx->user_port = row->destination.port_be;
}

static __always_inline void weir_show_destination6(struct bpf_sock_addr *ctx)
{
	struct weir_original *row = weir_client(ctx->sk);

	if (!row)
		return;
	weir_put6(ctx, &row->destination);
	ctx->user_port = row->destination.port_be;
}

/* An application that bound its socket to an address of its own sees that one anyway. */
static __always_inline void weir_show_source4(struct bpf_sock_addr *ctx)
{
	struct weir_original *row = weir_client(ctx->sk);
	struct weir_address real;

	weir_get4(ctx, &real);
	if (row && weir_is_loopback(&real) && !weir_is_unset(&row->source))
		ctx->user_ip4 = weir_word(&row->source, 3);
}

static __always_inline void weir_show_source6(struct bpf_sock_addr *ctx)
{
	struct weir_original *row = weir_client(ctx->sk);
	struct weir_address real;

	weir_get6(ctx, &real);
	if (row && weir_is_loopback(&real) && !weir_is_unset(&row->source))
		weir_put6(ctx, &row->source);
}

#endif /* WEIR_ADDRESS_H */

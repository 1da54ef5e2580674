/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once

/*
 * What a TLS sensor reports about one handshake: metadata only. No program here reads plaintext,
 * record buffers, keys or secrets; certificates are public data.
 */

#define TLS_NAME_BYTES 256	/* RFC 6066: a DNS name, at most 255 bytes */
#define TLS_ALPN_BYTES 32	/* longest registered protocol id is 23 bytes */
#define TLS_CERT_BYTES 4096	/* leaf DER; RSA-4096 leaves with many names measure 2 to 3 KiB */

enum tls_library {
	TLS_LIBRARY_GO = 1,
	TLS_LIBRARY_OPENSSL = 2,
};

enum tls_role {
	TLS_CLIENT = 1,
	TLS_SERVER = 2,
};

/* Written whole up to .cert, then cert_len bytes of it. */
struct handshake_event {
	struct event_header header;
	__u64 duration_ns;
	__u32 cipher_suite;	/* IANA id */
	__u32 cert_len;		/* bytes of .cert that follow, 0: none or not readable */
	__u16 version;		/* 0x0304 is TLS 1.3 */
	__u16 curve;		/* IANA named group, 0: not known */
	__u16 alert;		/* local alert sent + 1, 0: none */
	__u16 name_len;
	__s32 verify_result;	/* X509_V_*; OpenSSL only */
	__u32 error_reason;	/* ERR reason; OpenSSL only */
	__u8 library;		/* enum tls_library */
	__u8 role;		/* enum tls_role */
	__u8 ok;		/* 1: completed */
	__u8 resumed;
	__u8 alpn_len;
	__u8 cert_is_tbs;	/* .cert holds TBSCertificate only (OpenSSL keeps no whole DER) */
	__u8 cert_truncated;
	__u8 calls;		/* times the library was entered for this handshake */
	char name[TLS_NAME_BYTES];	/* SNI */
	char alpn[TLS_ALPN_BYTES];
	__u8 cert[TLS_CERT_BYTES];
};

// SPDX-License-Identifier: Apache-2.0
#include "agent/data/outputs_sha.h"

#include <string.h>

enum { BLOCK = 64 };

static const uint32_t initial[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f,
	0x9b05688c, 0x1f83d9ab, 0x5be0cd19};

#ifdef __x86_64__
#include <cpuid.h>
#include <immintrin.h>

static const uint32_t constants[64] __attribute__((aligned(16))) = {0x428a2f98, 0x71374491,
	0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98,
	0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
	0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc,
	0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147,
	0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354,
	0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3,
	0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08, 0x2748774c,
	0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3, 0x748f82ee, 0x78a5636f,
	0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

static bool has_instructions(void)
{
	static int has = -1; // cpuid leaves a virtual machine, which takes its time
	unsigned a, b, c, d;
	int known = __atomic_load_n(&has, __ATOMIC_RELAXED);
	if (known < 0) {
		known = __get_cpuid_count(7, 0, &a, &b, &c, &d) && b & 1U << 29;
		__atomic_store_n(&has, known, __ATOMIC_RELAXED);
	}
	return known;
}

#define WITH_SHA __attribute__((target("sha,sse4.1,ssse3")))

// The instructions want the eight words as (a, b, e, f) and (c, d, g, h), the first one highest.
WITH_SHA static void load(const uint32_t s[8], __m128i *abef, __m128i *cdgh)
{
	__m128i low = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)s), 0xb1);
	__m128i high = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)(s + 4)), 0x1b);
	*abef = _mm_alignr_epi8(low, high, 8);
	*cdgh = _mm_blend_epi16(high, low, 0xf0);
}

WITH_SHA static void store(uint32_t s[8], __m128i abef, __m128i cdgh)
{
	__m128i low = _mm_shuffle_epi32(abef, 0x1b), high = _mm_shuffle_epi32(cdgh, 0xb1);
	_mm_storeu_si128((__m128i *)s, _mm_blend_epi16(low, high, 0xf0));
	_mm_storeu_si128((__m128i *)(s + 4), _mm_alignr_epi8(high, low, 8));
}

// FIPS 180-4, 6.2.2, for two states and the same blocks.
WITH_SHA static void two_states(uint32_t s[8], uint32_t t[8], const uint8_t *p, size_t blocks)
{
	const __m128i swap = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);
	__m128i s0, s1, t0, t1, w[4];
	load(s, &s0, &s1);
	load(t, &t0, &t1);
	for (; blocks; blocks--, p += BLOCK) {
		const __m128i s2 = s0, s3 = s1, t2 = t0, t3 = t1;
#pragma GCC unroll 16
		for (int i = 0; i < 16; i++) {
			if (i < 4) {
				const __m128i *q = (const __m128i *)(p + (size_t)16 * (size_t)i);
				w[i] = _mm_shuffle_epi8(_mm_loadu_si128(q), swap);
			} else {
				__m128i before = w[(i + 3) & 3];
				__m128i sum = _mm_add_epi32(
					_mm_sha256msg1_epu32(w[i & 3], w[(i + 1) & 3]),
					_mm_alignr_epi8(before, w[(i + 2) & 3], 4));
				w[i & 3] = _mm_sha256msg2_epu32(sum, before);
			}
			__m128i m = _mm_add_epi32(w[i & 3],
				_mm_load_si128(
					(const __m128i *)(constants + (size_t)4 * (size_t)i)));
			s1 = _mm_sha256rnds2_epu32(s1, s0, m);
			t1 = _mm_sha256rnds2_epu32(t1, t0, m);
			m = _mm_shuffle_epi32(m, 0x0e);
			s0 = _mm_sha256rnds2_epu32(s0, s1, m);
			t0 = _mm_sha256rnds2_epu32(t0, t1, m);
		}
		s0 = _mm_add_epi32(s0, s2);
		s1 = _mm_add_epi32(s1, s3);
		t0 = _mm_add_epi32(t0, t2);
		t1 = _mm_add_epi32(t1, t3);
	}
	store(s, s0, s1);
	store(t, t0, t1);
}
#else
static bool has_instructions(void)
{
	return false;
}

static void two_states(uint32_t s[8], uint32_t t[8], const uint8_t *p, size_t blocks)
{
	(void)s, (void)t, (void)p, (void)blocks; // never called
}
#endif

// The end: what is left of the last block, a one, zeros and the length in bits.
static void pad(uint32_t state[8], const uint8_t *rest, size_t size, uint64_t total,
	uint8_t digest[SHA256_SIZE])
{
	uint8_t last[2 * BLOCK] = {0};
	uint32_t other[8];
	size_t blocks = size + 9 > BLOCK ? 2 : 1;
	if (size)
		memcpy(last, rest, size);
	last[size] = 0x80;
	for (size_t i = 0; i < 8; i++)
		last[blocks * BLOCK - 1 - i] = (uint8_t)(total * 8 >> 8 * i);
	memcpy(other, state, sizeof(other));
	two_states(state, other, last, blocks);
	for (size_t i = 0; i < SHA256_SIZE; i++)
		digest[i] = (uint8_t)(state[i / 4] >> (24 - 8 * (i % 4)));
}

void outputs_sha_init(struct outputs_sha *s)
{
	*s = (struct outputs_sha){.fast = has_instructions()};
	memcpy(s->state, initial, sizeof(initial));
	if (!s->fast)
		s->plain = sha256_new();
}

void outputs_sha_release(struct outputs_sha *s)
{
	sha256_free(s->plain);
	*s = (struct outputs_sha){0};
}

void outputs_sha_of(const void *data, size_t size, uint8_t digest[SHA256_SIZE])
{
	if (!has_instructions()) {
		sha256_of(data, size, digest);
		return;
	}
	uint32_t state[8], other[8];
	size_t rest = size % BLOCK;
	memcpy(state, initial, sizeof(state));
	memcpy(other, initial, sizeof(other));
	two_states(state, other, data, size / BLOCK);
	pad(state, (const uint8_t *)data + (size - rest), rest, size, digest);
}

void outputs_sha_chunk(
	struct outputs_sha *s, const void *data, size_t size, uint8_t digest[SHA256_SIZE])
{
	if (!s->fast) {
		sha256_of(data, size, digest);
		sha256_update(s->plain, data, size);
		return;
	}
	uint32_t chunk[8];
	const uint8_t *p = data;
	size_t rest = size % BLOCK;
	memcpy(chunk, initial, sizeof(chunk));
	two_states(s->state, chunk, p, size / BLOCK);
	s->size += size;
	p += size - rest;
	pad(chunk, p, rest, size, digest);
	if (!rest)
		return;
	// The last one: there are no bytes left to wait for.
	uint8_t ignored[SHA256_SIZE];
	pad(s->state, p, rest, s->size, ignored);
}

void outputs_sha_final(struct outputs_sha *s, uint8_t digest[SHA256_SIZE])
{
	if (!s->fast) {
		sha256_final(s->plain, digest);
		return;
	}
	if (s->size % BLOCK == 0) {
		pad(s->state, NULL, 0, s->size, digest);
		return;
	}
	for (size_t i = 0; i < SHA256_SIZE; i++)
		digest[i] = (uint8_t)(s->state[i / 4] >> (24 - 8 * (i % 4)));
}

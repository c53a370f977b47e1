/* The AES-128 key schedule by aeskeygenassist. */

/* next = the round key after `round`, `assist` being its aeskeygenassist */
static inline __m128i aes_next_key(__m128i round, __m128i assist) {
    round = _mm_xor_si128(round, _mm_slli_si128(round, 4));
    round = _mm_xor_si128(round, _mm_slli_si128(round, 8));
    return _mm_xor_si128(round, _mm_shuffle_epi32(assist, 0xff));
}

static void psm_aes_expand(const uint8_t *key, psm_aes_key *round_keys) {
    __m128i *out = (__m128i *)round_keys->bytes;
    __m128i k = _mm_loadu_si128((const __m128i *)key);

    _mm_storeu_si128(out, k);
#define NI_ROUND(r, constant) \
    k = aes_next_key(k, _mm_aeskeygenassist_si128(k, constant)); \
    _mm_storeu_si128(out + (r), k)
    NI_ROUND(1, 0x01);
    NI_ROUND(2, 0x02);
    NI_ROUND(3, 0x04);
    NI_ROUND(4, 0x08);
    NI_ROUND(5, 0x10);
    NI_ROUND(6, 0x20);
    NI_ROUND(7, 0x40);
    NI_ROUND(8, 0x80);
    NI_ROUND(9, 0x1b);
    NI_ROUND(10, 0x36);
#undef NI_ROUND
}

/*
 * SHA-256 of many messages of one length, by whatever this processor does best.
 *
 * Every message of a shard tree is a leaf (16 blocks) or a node (1 block) and then one block of
 * padding that is always the same, so its schedule is computed once. Equal lengths also let
 * messages run side by side: in the lanes of a vector (AVX-512, AVX2: _lanes.h), or as two
 * interleaved streams of SHA instructions.
 *
 * Compile for the plain processor: each kernel names the instructions it needs, and is offered
 * only where the processor and the system have them. Elsewhere there is none.
 */
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__) && defined(__GNUC__)
#define HAVE_KERNELS
#include <cpuid.h>
#include <immintrin.h>
#endif

enum { BLOCK = 64, HASH = 32 };

static const uint32_t K[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

/* Messages of one length: their blocks, and schedule + K of the padding block that follows. */
typedef struct {
    size_t blocks;
    uint32_t padding[64];
} shape;

/* Hash `count` messages that lie one after the other; `out` may be `in`, it never overtakes. */
typedef void (*hash_many)(const shape *, const uint8_t *in, size_t count, uint8_t *out);

typedef struct {
    const char *name;
    hash_many run;
} kernel;

static kernel kernels[3];
static size_t kernel_count;

#define ROTATE(x, n) ((x) >> (n) | (x) << (32 - (n)))
#define SCHEDULE_0(x) (ROTATE(x, 7) ^ ROTATE(x, 18) ^ (x) >> 3)
#define SCHEDULE_1(x) (ROTATE(x, 17) ^ ROTATE(x, 19) ^ (x) >> 10)

static void make_shape(shape *s, size_t blocks)
{
    uint32_t w[64] = {0x80000000};
    w[15] = (uint32_t)(8 * BLOCK * blocks);
    for (int i = 16; i < 64; i++)
        w[i] = w[i - 16] + SCHEDULE_0(w[i - 15]) + w[i - 7] + SCHEDULE_1(w[i - 2]);
    s->blocks = blocks;
    for (int i = 0; i < 64; i++)
        s->padding[i] = w[i] + K[i];
}

#ifdef HAVE_KERNELS

/* Quicker than lanes that are mostly idle, or NULL. */
static hash_many hash_few;

static const uint32_t IV[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                               0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};

static const uint8_t *message(const shape *s, const uint8_t *in, size_t index, size_t count)
{
    /* A lane that has no message of its own repeats the last one. */
    return in + BLOCK * s->blocks * (index < count ? index : count - 1);
}

#ifdef __clang__
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (V){__VA_ARGS__})
#endif
#define BIG_ENDIAN_WORDS 0x0c0d0e0f08090a0bLL, 0x0405060700010203LL

/* One round, and sixteen of them with the registers renamed instead of moved. */
#define ROUND(a, b, c, d, e, f, g, h, kw)                                                      \
    do {                                                                                       \
        V t = (h) + (kw) + ((ROTATE(e, 6) ^ ROTATE(e, 11) ^ ROTATE(e, 25)) +                   \
                            ((((f) ^ (g)) & (e)) ^ (g)));                                      \
        (d) += t;                                                                              \
        (h) = t + ((ROTATE(a, 2) ^ ROTATE(a, 13) ^ ROTATE(a, 22)) +                            \
                   (((a) & (b)) | (((a) | (b)) & (c))));                                       \
    } while (0)
#define EIGHT_ROUNDS(STEP, i)                                                                  \
    STEP(i, a, b, c, d, e, f, g, h);                                                           \
    STEP(i + 1, h, a, b, c, d, e, f, g);                                                       \
    STEP(i + 2, g, h, a, b, c, d, e, f);                                                       \
    STEP(i + 3, f, g, h, a, b, c, d, e);                                                       \
    STEP(i + 4, e, f, g, h, a, b, c, d);                                                       \
    STEP(i + 5, d, e, f, g, h, a, b, c);                                                       \
    STEP(i + 6, c, d, e, f, g, h, a, b);                                                       \
    STEP(i + 7, b, c, d, e, f, g, h, a)
#define DATA_STEP(i, a, b, c, d, e, f, g, h)                                                   \
    ROUND(a, b, c, d, e, f, g, h, w[i] + K[round + (i)]);                                      \
    if (round < 48)                                                                            \
    w[i] += SCHEDULE_0(w[((i) + 1) & 15]) + w[((i) + 9) & 15] + SCHEDULE_1(w[((i) + 14) & 15])
#define PADDING_STEP(i, a, b, c, d, e, f, g, h)                                                \
    ROUND(a, b, c, d, e, f, g, h, padding[round + (i)])

#define LANES 16
#define SUFFIX(name) name##_avx512
#define TARGET __attribute__((target("avx512f,avx512bw")))
#define SWAP(x) \
    (V) _mm512_shuffle_epi8((__m512i)(x), _mm512_set_epi64(BIG_ENDIAN_WORDS, BIG_ENDIAN_WORDS, \
                                                           BIG_ENDIAN_WORDS, BIG_ENDIAN_WORDS))
#define ZIP_LOW(a, b) SHUFFLE(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23)
#define ZIP_HIGH(a, b) SHUFFLE(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31)
#include "_lanes.h"

#define LANES 8
#define SUFFIX(name) name##_avx2
#define TARGET __attribute__((target("avx2")))
#define SWAP(x) \
    (V) _mm256_shuffle_epi8((__m256i)(x), _mm256_set_epi64x(BIG_ENDIAN_WORDS, BIG_ENDIAN_WORDS))
#define ZIP_LOW(a, b) SHUFFLE(a, b, 0, 8, 1, 9, 2, 10, 3, 11)
#define ZIP_HIGH(a, b) SHUFFLE(a, b, 4, 12, 5, 13, 6, 14, 7, 15)
#include "_lanes.h"

/*
 * SHA instructions, two streams; left out by -march flags that switch AVX on everywhere. Those have
 * no VEX encoding, and mixed with code that has it they ran 150 times slower on Sapphire Rapids.
 */
#ifndef __AVX__
#define SHA_NI __attribute__((target("sha,sse4.1")))

typedef struct {
    __m128i abef, cdgh;
} ni_state;

static inline SHA_NI void ni_four_rounds(ni_state *s, __m128i kw)
{
    s->cdgh = _mm_sha256rnds2_epu32(s->cdgh, s->abef, kw);
    s->abef = _mm_sha256rnds2_epu32(s->abef, s->cdgh, _mm_shuffle_epi32(kw, 0x0e));
}

static inline SHA_NI void ni_load(__m128i w[4], const uint8_t *block)
{
    for (int i = 0; i < 4; i++)
        w[i] = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)block + i),
                                _mm_set_epi64x(BIG_ENDIAN_WORDS));
}

static inline SHA_NI __m128i ni_schedule(__m128i w0, __m128i w1, __m128i w2, __m128i w3)
{
    __m128i sum = _mm_add_epi32(_mm_sha256msg1_epu32(w0, w1), _mm_alignr_epi8(w3, w2, 4));
    return _mm_sha256msg2_epu32(sum, w3);
}

static inline SHA_NI void ni_add(ni_state *s, ni_state by)
{
    s->abef = _mm_add_epi32(s->abef, by.abef);
    s->cdgh = _mm_add_epi32(s->cdgh, by.cdgh);
}

static inline SHA_NI void ni_blocks(ni_state s[2], const uint8_t *const block[2])
{
    ni_state old[2] = {s[0], s[1]};
    __m128i w[2][4];
    ni_load(w[0], block[0]);
    ni_load(w[1], block[1]);
#pragma GCC unroll 16
    for (int i = 0; i < 16; i++) {
        __m128i k = _mm_loadu_si128((const __m128i *)K + i);
        for (int lane = 0; lane < 2; lane++) {
            __m128i *v = w[lane];
            ni_four_rounds(&s[lane], _mm_add_epi32(v[i & 3], k));
            if (i < 12)
                v[i & 3] = ni_schedule(v[i & 3], v[(i + 1) & 3], v[(i + 2) & 3], v[(i + 3) & 3]);
        }
    }
    ni_add(&s[0], old[0]);
    ni_add(&s[1], old[1]);
}

static inline SHA_NI void ni_padding(ni_state s[2], const uint32_t padding[64])
{
    ni_state old[2] = {s[0], s[1]};
#pragma GCC unroll 16
    for (int i = 0; i < 16; i++) {
        __m128i kw = _mm_loadu_si128((const __m128i *)padding + i);
        ni_four_rounds(&s[0], kw);
        ni_four_rounds(&s[1], kw);
    }
    ni_add(&s[0], old[0]);
    ni_add(&s[1], old[1]);
}

static inline SHA_NI void ni_store(uint8_t *out, const ni_state *s)
{
    const __m128i mask = _mm_set_epi64x(BIG_ENDIAN_WORDS);
    const __m128i feba = _mm_shuffle_epi32(s->abef, 0x1b), hgdc = _mm_shuffle_epi32(s->cdgh, 0x1b);
    const __m128i abcd = _mm_unpacklo_epi64(feba, hgdc), efgh = _mm_unpackhi_epi64(feba, hgdc);
    _mm_storeu_si128((__m128i *)out, _mm_shuffle_epi8(abcd, mask));
    _mm_storeu_si128((__m128i *)out + 1, _mm_shuffle_epi8(efgh, mask));
}

static SHA_NI void hash_sha_ni(const shape *s, const uint8_t *in, size_t count, uint8_t *out)
{
    const ni_state start = {_mm_set_epi32((int)IV[0], (int)IV[1], (int)IV[4], (int)IV[5]),
                            _mm_set_epi32((int)IV[2], (int)IV[3], (int)IV[6], (int)IV[7])};
    for (size_t first = 0; first < count; first += 2) {
        ni_state state[2] = {start, start};
        const uint8_t *block[2] = {message(s, in, first, count), message(s, in, first + 1, count)};
        for (size_t i = 0; i < s->blocks; i++, block[0] += BLOCK, block[1] += BLOCK)
            ni_blocks(state, block);
        ni_padding(state, s->padding);
        ni_store(out + HASH * first, &state[0]);
        if (first + 1 < count)
            ni_store(out + HASH * (first + 1), &state[1]);
    }
}

static int has_sha_ni(void)
{
    unsigned eax, ebx, ecx, edx;
    return __builtin_cpu_supports("sse4.1") && __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) &&
           (ebx >> 29 & 1);
}

#endif

/* The quickest first: a whole tree at 2.4, 1.6 and 0.9 GB/s on Sapphire Rapids. */
static void find_kernels(void)
{
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw"))
        kernels[kernel_count++] = (kernel){"avx512", hash_avx512};
#ifndef __AVX__
    if (has_sha_ni())
        kernels[kernel_count++] = (kernel){"sha-ni", hash_few = hash_sha_ni};
#endif
    if (__builtin_cpu_supports("avx2"))
        kernels[kernel_count++] = (kernel){"avx2", hash_avx2};
}

#else

static void find_kernels(void)
{
}

#endif

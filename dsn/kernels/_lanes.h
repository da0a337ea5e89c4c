/*
 * SHA-256 of messages of one length side by side, a message a lane of a vector.
 *
 * Included by _sha256.h once for each width, with LANES, SUFFIX(name), TARGET, SWAP (bytes of each
 * word), ZIP_LOW and ZIP_HIGH (elements of two vectors in turn) defined for it.
 */
#define V SUFFIX(vector)
typedef uint32_t V __attribute__((vector_size(4 * LANES)));

/* Transpose words: log2(count) times, deal the rows' two halves out in turn. */
static inline TARGET void SUFFIX(transpose)(V *rows, int count)
{
    V dealt[LANES];
    for (int done = 1; done < count; done *= 2) {
        for (int i = 0; i < count / 2; i++) {
            dealt[2 * i] = ZIP_LOW(rows[i], rows[i + count / 2]);
            dealt[2 * i + 1] = ZIP_HIGH(rows[i], rows[i + count / 2]);
        }
        memcpy(rows, dealt, sizeof(V) * count);
    }
}

/* One block of each message, so that w[i] holds word i of all of them. */
static inline TARGET void SUFFIX(load)(V w[16], const uint8_t *const from[LANES], size_t offset)
{
    for (int square = 0; square < 16; square += LANES, offset += sizeof(V)) {
        for (int i = 0; i < LANES; i++) {
            memcpy(&w[square + i], from[i] + offset, sizeof(V));
            w[square + i] = SWAP(w[square + i]);
        }
        SUFFIX(transpose)(w + square, LANES);
    }
}

static inline TARGET void SUFFIX(store)(uint8_t *out, V state[8], size_t count)
{
    for (int i = 0; i < 8; i++)
        state[i] = SWAP(state[i]);
    SUFFIX(transpose)(state, 8);
    memcpy(out, state, HASH * (count < LANES ? count : LANES));
}

/* One block: the data's if `w` is given, else the padding's. */
static inline __attribute__((always_inline)) TARGET void SUFFIX(block)(V state[8], V w[16],
                                                                       const uint32_t padding[64])
{
    V a = state[0], b = state[1], c = state[2], d = state[3];
    V e = state[4], f = state[5], g = state[6], h = state[7];
    for (int round = 0; w && round < 64; round += 16) {
        EIGHT_ROUNDS(DATA_STEP, 0);
        EIGHT_ROUNDS(DATA_STEP, 8);
    }
    for (int round = 0; !w && round < 64; round += 8) {
        EIGHT_ROUNDS(PADDING_STEP, 0);
    }
    state[0] += a, state[1] += b, state[2] += c, state[3] += d;
    state[4] += e, state[5] += f, state[6] += g, state[7] += h;
}

static TARGET void SUFFIX(hash)(const shape *s, const uint8_t *in, size_t count, uint8_t *out)
{
    size_t first = 0;
    for (; first < count && (!hash_few || count - first >= LANES / 2); first += LANES) {
        const uint8_t *from[LANES];
        V state[8], w[16];
        for (size_t lane = 0; lane < LANES; lane++)
            from[lane] = message(s, in, first + lane, count);
        for (int i = 0; i < 8; i++)
            state[i] = (V){0} + IV[i];
        for (size_t i = 0; i < s->blocks; i++) {
            SUFFIX(load)(w, from, BLOCK * i);
            SUFFIX(block)(state, w, NULL);
        }
        SUFFIX(block)(state, NULL, s->padding);
        SUFFIX(store)(out + HASH * first, state, count - first);
    }
    /* Upper halves left in use would slow every legacy SSE instruction that follows. */
    _mm256_zeroupper();
    if (first < count)
        hash_few(s, message(s, in, first, count), count - first, out + HASH * first);
}

#undef V
#undef LANES
#undef SUFFIX
#undef TARGET
#undef SWAP
#undef ZIP_LOW
#undef ZIP_HIGH

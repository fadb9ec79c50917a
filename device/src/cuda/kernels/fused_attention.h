/* Attention of a head, without a score in memory: tensor cores for both products, a softmax that runs along.
 *
 * A warp has 16 queries of a head. It takes keys and values from shared memory in tiles, and keeps of the tiles so far each
 * query's largest score, the sum of 2^(score - largest) and the so weighted sum of values (Milakov and Gimelshein,
 * "Online normalizer calculation for softmax", arXiv 1805.02867; Dao, "FlashAttention-2", arXiv 2307.08691).
 *
 * What a lane holds is an array over lanes: of one on a GPU, where each thread has its own, of all 32 in the tests' build,
 * which so runs this same text. Fragments are those of the PTX ISA for mma.m16n8k16 with f16: `lane / 4` says which row or
 * column a lane has, and `lane % 4` which pair of neighbours.
 */
#define QUERIES_OF_WARP 16
#define WARPS 4
#define QUERIES_OF_BLOCK (WARPS * QUERIES_OF_WARP)
#define KEYS_OF_TILE 64
/* Keys, and dimensions, of a product of fragments. */
#define CHUNK 16
/* Of queries, keys and values. */
#define MOST_DIMS 128
/* Rows of a tile start in different banks of shared memory, where eight values can be read at once. */
#define ROW_PADDING 8
#define NO_SCORE -3.0e38f
/* Exponentials are powers of two, for which GPUs have an instruction. */
#define LOG2_E 1.44269504f

#ifdef __CUDACC_RTC__
#define LANES_HELD 1
#define WARPS_HELD 1
#define ROLLED _Pragma("unroll 1")
/* Two f16 in a register, the first in its lower half. */
typedef unsigned half_pair;
FUNCTION int lane_of(int held) { return threadIdx.x % LANES + held; }
FUNCTION int warp_of(int held) { return threadIdx.x / LANES + held; }
FUNCTION half_pair pair_of(half_bits low, half_bits high) { return (unsigned)high << 16 | low; }
FUNCTION half_pair rounded_pair(float low, float high) {
    half_pair pair;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    return pair;
}
FUNCTION void store_pair(half_bits *to, float low, float high) { *(half_pair *)to = rounded_pair(low, high); }
/* Starts to copy the first `valid` of eight values to shared memory, and zeros for the others. */
FUNCTION void copy_eight(half_bits *to, const half_bits *from, int valid) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
                 :
                 : "r"((unsigned)__cvta_generic_to_shared(to)), "l"(from), "r"(2 * valid)
                 : "memory");
}
/* All threads wait until what each of them copied is there for all. */
FUNCTION void wait_for_copies(void) {
    asm volatile("cp.async.wait_all;" ::: "memory");
    __syncthreads();
}
FUNCTION void load_matrices(half_pair to[4][LANES_HELD], const half_bits **from) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0][0]), "=r"(to[1][0]), "=r"(to[2][0]), "=r"(to[3][0])
                 : "r"((unsigned)__cvta_generic_to_shared(from[0]))
                 : "memory");
}
FUNCTION void load_transposed(half_pair to[4][LANES_HELD], const half_bits **from) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0][0]), "=r"(to[1][0]), "=r"(to[2][0]), "=r"(to[3][0])
                 : "r"((unsigned)__cvta_generic_to_shared(from[0]))
                 : "memory");
}
FUNCTION void multiply(float sum[4][LANES_HELD], half_pair a[4][LANES_HELD], half_pair b[2][LANES_HELD]) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(sum[0][0]), "+f"(sum[1][0]), "+f"(sum[2][0]), "+f"(sum[3][0])
        : "r"(a[0][0]), "r"(a[1][0]), "r"(a[2][0]), "r"(a[3][0]), "r"(b[0][0]), "r"(b[1][0]));
}
/* To 2^-22 of it (PTX ISA, ex2). */
FUNCTION float power_of_two(float exponent) {
    float power;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(exponent));
    return power;
}
/* Over the four lanes that share a row. */
FUNCTION void largest_of_row(float *value) {
    value[0] = fmaxf(value[0], __shfl_xor_sync(~0u, value[0], 1));
    value[0] = fmaxf(value[0], __shfl_xor_sync(~0u, value[0], 2));
}
FUNCTION void sum_of_row(float *value) {
    value[0] += __shfl_xor_sync(~0u, value[0], 1);
    value[0] += __shfl_xor_sync(~0u, value[0], 2);
}
#endif
#define EACH_LANE for (int held = 0; held < LANES_HELD; held++)
#define EACH_WARP for (int mine = 0; mine < WARPS_HELD; mine++)

/* What is asked for. Distances are in values; only the first dimensions of a head are kept. */
struct attention {
    /* Of an image. */
    int queries, keys;
    int heads, head_dim, query_dims, value_dims;
    /* Of rows of queries, and of images; of rows of keys, and of values. */
    int query_leading, query_image, key_leading;
    /* Logarithms of how many tokens a key stands for, `dense` for each image; they count if `weighted`. */
    int dense, weighted;
    float scale;
};

/* The head and the queries of a block of threads. */
struct attention_block {
    int image, head, first_query;
};

/* What a warp knows of its 16 queries. A lane has parts of the rows `lane / 4` and `lane / 4 + 8`. */
struct attention_warp {
    half_pair queries[MOST_DIMS / CHUNK][4][LANES_HELD];
    /* Of the keys of a tile in groups of eight, then their weights. */
    float scores[KEYS_OF_TILE / 8][4][LANES_HELD];
    float attended[MOST_DIMS / 8][4][LANES_HELD];
    float largest[2][LANES_HELD];
    float sum[2][LANES_HELD];
};

FUNCTION struct attention_block attention_block_of(int block, const struct attention *of) {
    int tiles = (of->queries + QUERIES_OF_BLOCK - 1) / QUERIES_OF_BLOCK;
    struct attention_block found = {block / (tiles * of->heads), block / tiles % of->heads,
                                    block % tiles * QUERIES_OF_BLOCK};
    return found;
}

/* The first query of a warp. */
FUNCTION int first_query_of(struct attention_block at, int held) {
    return at.first_query + warp_of(held) * QUERIES_OF_WARP;
}

/* Starts to copy keys or values from `first` on, of which `dims` are kept, to a tile with room for `most`. What the products
 * meet beyond them is zero, for memory there may hold NaN. */
FUNCTION void copy_to_tile(const half_bits *rows, half_bits *tile, const struct attention *of, struct attention_block at,
                           int first, int dims, int most) {
    const half_bits *start = rows + (at.image * of->keys + first) * of->key_leading + at.head * of->head_dim;
    int left = of->keys - first, groups = most / 8;
    EACH_WARP EACH_LANE {
        int thread = warp_of(mine) * LANES + lane_of(held);
        /* Not unrolled: an address for each round would take the registers that the products need. */
        ROLLED for (int round = 0; round < KEYS_OF_TILE * (most / 8) / (WARPS * LANES); round++) {
            int index = round * WARPS * LANES + thread, key = index / groups, dim = index % groups * 8;
            int valid = key < left && dim < dims ? (dims - dim < 8 ? dims - dim : 8) : 0;
            if (key < left + CHUNK && dim < dims + CHUNK)
                copy_eight(tile + key * (most + ROW_PADDING) + dim,
                           valid > 0 ? start + key * of->key_leading + dim : start, valid);
        }
    }
}

/* Zero beyond the last dimension that is kept. */
FUNCTION half_bits query_value(const half_bits *row, int dim, int dims) { return dim < dims ? row[dim] : 0; }

/* A warp's queries, and nothing seen yet. Rows beyond the last query are zero. */
FUNCTION void start_attention(struct attention_warp *warp, const half_bits *queries, const struct attention *of,
                              struct attention_block at, int first_query, int most) {
    EACH_LANE {
        int lane = lane_of(held);
        UNROLL for (int part = 0; part < 4; part++) {
            int query = first_query + lane / 4 + part % 2 * 8, dims = query < of->queries ? of->query_dims : 0;
            const half_bits *row =
                queries + at.image * of->query_image + query * of->query_leading + at.head * of->head_dim;
            UNROLL for (int chunk = 0; chunk < most / CHUNK; chunk++) {
                int dim = chunk * CHUNK + part / 2 * 8 + lane % 4 * 2;
                warp->queries[chunk][part][held] =
                    pair_of(query_value(row, dim, dims), query_value(row, dim + 1, dims));
            }
        }
        UNROLL for (int part = 0; part < 4; part++)
            UNROLL for (int group = 0; group < most / 8; group++) warp->attended[group][part][held] = 0.0f;
        UNROLL for (int half = 0; half < 2; half++) {
            warp->largest[half][held] = NO_SCORE;
            warp->sum[half][held] = 0.0f;
        }
    }
}

/* Scores of the keys of a tile, of each chunk in two groups of eight. `left` is how many there are from its first on. */
FUNCTION void score_tile(struct attention_warp *warp, const half_bits *keys, const struct attention *of, int left,
                         int most) {
    UNROLL for (int chunk = 0; chunk < KEYS_OF_TILE / CHUNK; chunk++) {
        EACH_LANE UNROLL for (int part = 0; part < 4; part++)
            warp->scores[2 * chunk][part][held] = warp->scores[2 * chunk + 1][part][held] = 0.0f;
        if (chunk * CHUNK < left) {
            UNROLL for (int dims = 0; dims < most / CHUNK; dims++) {
                if (dims * CHUNK < of->query_dims) {
                    half_pair fragments[4][LANES_HELD];
                    const half_bits *rows[LANES_HELD];
                    EACH_LANE {
                        /* Lanes 8 to 15 have the upper dimensions of the lower keys. */
                        int lane = lane_of(held), key = chunk * CHUNK + lane / 16 * 8 + lane % 8;
                        rows[held] = keys + key * (most + ROW_PADDING) + dims * CHUNK + lane / 8 % 2 * 8;
                    }
                    load_matrices(fragments, rows);
                    multiply(warp->scores[2 * chunk], warp->queries[dims], fragments);
                    multiply(warp->scores[2 * chunk + 1], warp->queries[dims], fragments + 2);
                }
            }
        }
    }
}

/* Scores to 2^(score - largest), and what was found before to the new largest one. */
FUNCTION void weigh_tile(struct attention_warp *warp, const float *log_sizes, const struct attention *of, int left,
                         int most) {
    float largest[2][LANES_HELD];
    EACH_LANE {
        int lane = lane_of(held);
        UNROLL for (int half = 0; half < 2; half++) largest[half][held] = warp->largest[half][held];
        UNROLL for (int group = 0; group < KEYS_OF_TILE / 8; group++) {
            UNROLL for (int part = 0; part < 4; part++) {
                int key = group * 8 + lane % 4 * 2 + part % 2;
                float score = NO_SCORE;
                if (key < left) {
                    score = warp->scores[group][part][held] * (of->scale * LOG2_E);
                    if (of->weighted) score += log_sizes[key] * LOG2_E;
                }
                warp->scores[group][part][held] = score;
                largest[part / 2][held] = fmaxf(largest[part / 2][held], score);
            }
        }
    }
    UNROLL for (int half = 0; half < 2; half++) largest_of_row(largest[half]);
    EACH_LANE {
        UNROLL for (int half = 0; half < 2; half++) {
            float factor = power_of_two(warp->largest[half][held] - largest[half][held]);
            warp->largest[half][held] = largest[half][held];
            warp->sum[half][held] *= factor;
            UNROLL for (int group = 0; group < most / 8; group++) {
                warp->attended[group][2 * half][held] *= factor;
                warp->attended[group][2 * half + 1][held] *= factor;
            }
        }
        UNROLL for (int group = 0; group < KEYS_OF_TILE / 8; group++) {
            UNROLL for (int part = 0; part < 4; part++) {
                float weight = power_of_two(warp->scores[group][part][held] - largest[part / 2][held]);
                warp->scores[group][part][held] = weight;
                /* Of this lane's keys; the row's four lanes are added up at the end. */
                warp->sum[part / 2][held] += weight;
            }
        }
    }
}

/* Adds the weighted values of a tile. A lane has scores where the next product takes weights from it. */
FUNCTION void add_values(struct attention_warp *warp, const half_bits *values, const struct attention *of, int left,
                         int most) {
    UNROLL for (int chunk = 0; chunk < KEYS_OF_TILE / CHUNK; chunk++) {
        if (chunk * CHUNK < left) {
            half_pair shares[4][LANES_HELD];
            EACH_LANE UNROLL for (int part = 0; part < 4; part++) {
                float(*weights)[LANES_HELD] = warp->scores[2 * chunk + part / 2];
                shares[part][held] = rounded_pair(weights[part % 2 * 2][held], weights[part % 2 * 2 + 1][held]);
            }
            UNROLL for (int dims = 0; dims < most / CHUNK; dims++) {
                if (dims * CHUNK < of->value_dims) {
                    half_pair fragments[4][LANES_HELD];
                    const half_bits *rows[LANES_HELD];
                    EACH_LANE {
                        /* Lanes 8 to 15 have the upper keys of the lower dimensions. */
                        int lane = lane_of(held), key = chunk * CHUNK + lane / 8 % 2 * 8 + lane % 8;
                        rows[held] = values + key * (most + ROW_PADDING) + dims * CHUNK + lane / 16 * 8;
                    }
                    load_transposed(fragments, rows);
                    multiply(warp->attended[2 * dims], shares, fragments);
                    multiply(warp->attended[2 * dims + 1], shares, fragments + 2);
                }
            }
        }
    }
}

/* [images, queries, heads, head_dim]. The projection meets all dimensions of a head: those that are not kept are zero, as they
 * are in a tile of values. */
FUNCTION void write_attended(struct attention_warp *warp, half_bits *out, const struct attention *of,
                             struct attention_block at, int first_query, int most) {
    UNROLL for (int half = 0; half < 2; half++) sum_of_row(warp->sum[half]);
    EACH_LANE {
        int lane = lane_of(held);
        UNROLL for (int half = 0; half < 2; half++) {
            int query = first_query + lane / 4 + half * 8;
            if (query < of->queries) {
                half_bits *row = out + ((at.image * of->queries + query) * of->heads + at.head) * of->head_dim;
                float factor = 1.0f / warp->sum[half][held];
                UNROLL for (int group = 0; group < most / 8; group++) {
                    int dim = group * 8 + lane % 4 * 2;
                    if (dim < of->head_dim)
                        store_pair(row + dim, warp->attended[group][2 * half][held] * factor,
                                   warp->attended[group][2 * half + 1][held] * factor);
                }
                for (int dim = most + lane % 4 * 2; dim < of->head_dim; dim += 8) store_pair(row + dim, 0.0f, 0.0f);
            }
        }
    }
}

/* What a block of threads does. Values arrive while keys are met, and the next keys while values are. */
FUNCTION void attend(int block, const half_bits *queries, const half_bits *keys, const half_bits *values,
                     const float *log_sizes, half_bits *out, half_bits *key_tile, half_bits *value_tile,
                     const struct attention *of, int most) {
    struct attention_block at = attention_block_of(block, of);
    struct attention_warp warps[WARPS_HELD];
    copy_to_tile(keys, key_tile, of, at, 0, of->query_dims, most);
    EACH_WARP start_attention(&warps[mine], queries, of, at, first_query_of(at, mine), most);
    for (int first = 0; first < of->keys; first += KEYS_OF_TILE) {
        int left = of->keys - first;
        /* The keys are there, and all are done with the values before. */
        wait_for_copies();
        copy_to_tile(values, value_tile, of, at, first, of->value_dims, most);
        EACH_WARP if (first_query_of(at, mine) < of->queries) score_tile(&warps[mine], key_tile, of, left, most);
        /* The values are there, and all are done with the keys. */
        wait_for_copies();
        if (left > KEYS_OF_TILE) copy_to_tile(keys, key_tile, of, at, first + KEYS_OF_TILE, of->query_dims, most);
        EACH_WARP if (first_query_of(at, mine) < of->queries) {
            weigh_tile(&warps[mine], log_sizes + at.image * of->dense + first, of, left, most);
            add_values(&warps[mine], value_tile, of, left, most);
        }
    }
    EACH_WARP if (first_query_of(at, mine) < of->queries)
        write_attended(&warps[mine], out, of, at, first_query_of(at, mine), most);
}

/* Compresses a buffer with the library that was just built and decompresses it again.
 * Prints version, sizes and ratio; exits with 0 only if every byte came back. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

enum { SIZE = 4 << 20, LEVEL = 3 };

/* Words in a pseudo-random order: compressible, but not a mere repetition. */
static void fill(char *buffer, size_t size)
{
    static const char *const words[] = {
        "goal ", "waitee ", "derivation ", "output ", "store ", "path ", "closure ", "builder\n",
    };
    unsigned state = 1;
    size_t at = 0;

    while (at < size) {
        const char *word;
        size_t length;

        state = state * 1664525u + 1013904223u;
        word = words[state >> 29];
        length = strlen(word);
        if (length > size - at)
            length = size - at;
        memcpy(buffer + at, word, length);
        at += length;
    }
}

static int fail(const char *what, size_t code)
{
    fprintf(stderr, "roundtrip: %s: %s\n", what, ZSTD_getErrorName(code));
    return EXIT_FAILURE;
}

int main(void)
{
    const size_t bound = ZSTD_compressBound(SIZE);
    char *const original = malloc(SIZE);
    char *const restored = malloc(SIZE);
    char *const packed = malloc(bound);
    size_t packed_size, restored_size;
    int exact;

    if (!original || !restored || !packed) {
        fputs("roundtrip: out of memory\n", stderr);
        return EXIT_FAILURE;
    }
    fill(original, SIZE);

    packed_size = ZSTD_compress(packed, bound, original, SIZE, LEVEL);
    if (ZSTD_isError(packed_size))
        return fail("compress", packed_size);
    restored_size = ZSTD_decompress(restored, SIZE, packed, packed_size);
    if (ZSTD_isError(restored_size))
        return fail("decompress", restored_size);

    exact = restored_size == SIZE && memcmp(original, restored, SIZE) == 0;
    printf("zstd %s: %d bytes -> %zu -> %zu, ratio %.2f, round trip %s\n", ZSTD_versionString(),
           (int)SIZE, packed_size, restored_size, (double)SIZE / (double)packed_size,
           exact ? "exact" : "BROKEN");
    free(packed);
    free(restored);
    free(original);
    return exact ? EXIT_SUCCESS : EXIT_FAILURE;
}

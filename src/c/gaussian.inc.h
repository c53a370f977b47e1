/* Numbers of a table of thresholds, as the sampler of discrete Gaussian noise draws them
 * (mpc/derived/discrete_gaussian.py): every word is compared with every threshold, so that neither
 * branches nor addresses depend on the words.
 *
 * The lower 63 bits of a word are compared, the upper one is the sign.  A word that is equal to a
 * threshold takes a second word to decide, which is the caller's.  Differences of numbers of 63
 * bits have their sign in the upper bit: no vector unit lacks what this takes.
 */

/* z[i] += factor * (-1)^sign * (number of thresholds below words[i]); tied[i] = how many are equal to it */
static void psm_gaussian(const u64 *words, const u64 *thresholds, size_t count, u64 factor, u64 *z, u64 *tied,
                         size_t begin, size_t end) {
    for (size_t i = begin; i < end; i++) {
        u64 low = words[i] & (~(u64)0 >> 1), minus = 0 - (words[i] >> 63), below = 0, reached = 0;
        for (size_t k = 0; k < count; k++) {
            u64 less = thresholds[k] - low;
            below += less >> 63;
            reached += (less - 1) >> 63;
        }
        z[i] += ((below ^ minus) - minus) * factor;
        tied[i] = reached - below;
    }
}

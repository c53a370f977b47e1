/* See pages.h. */
#include "pages.h"

#include <stdint.h>

#ifdef __linux__
#include <sys/mman.h>
#endif

int psm_large_pages(void *memory, size_t bytes) {
#ifdef MADV_HUGEPAGE
    uintptr_t first = ((uintptr_t)memory + PSM_LARGE_PAGE - 1) & ~(uintptr_t)(PSM_LARGE_PAGE - 1);
    uintptr_t end = ((uintptr_t)memory + bytes) & ~(uintptr_t)(PSM_LARGE_PAGE - 1);
    return first < end && madvise((void *)first, end - first, MADV_HUGEPAGE) == 0;
#else
    return (void)memory, (void)bytes, 0;
#endif
}

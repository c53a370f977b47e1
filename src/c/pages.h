/* Pages of 2 MB for memory that is swept again and again. */
#ifndef PSM_PAGES_H
#define PSM_PAGES_H

#include <stddef.h>

enum { PSM_LARGE_PAGE = 1 << 21 }; /* bytes */

/* Ask for large pages where some memory has room for whole ones; 0 where it has not, or there are none. */
int psm_large_pages(void *memory, size_t bytes);

#endif

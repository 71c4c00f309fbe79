/* Counts what is in a text of UTF-8. */
#ifndef TEXT_H
#define TEXT_H

#include <stddef.h>

/* Returns how many words a text has: what white space divides. */
size_t text_words(const char *text, size_t length);

/* Returns how many characters a text has. */
size_t text_characters(const char *text, size_t length);

/* Tells whether a page has room for a text as its title. */
int text_fits_title(const char *text, size_t length);

#endif

#include "text.h"

#include "limits.h"

static int is_space(char c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}

size_t text_words(const char *text, size_t length) {
    size_t words = 0;
    int within = 0;
    for (size_t i = 0; i < length; i++) {
        int space = is_space(text[i]);
        words += !space && !within;
        within = !space;
    }
    return words;
}

size_t text_characters(const char *text, size_t length) {
    size_t characters = 0;
    for (size_t i = 0; i < length; i++) {
        /* The bytes that continue a character begin with the bits 10. */
        characters += ((unsigned char)text[i] & 0xC0) != 0x80;
    }
    return characters;
}

int text_fits_title(const char *text, size_t length) {
    return text_characters(text, length) <= TITLE_LIMIT;
}

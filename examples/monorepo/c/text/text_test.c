#include <assert.h>
#include <string.h>

#include "text.h"

static size_t words(const char *text) {
    return text_words(text, strlen(text));
}

int main(void) {
    assert(words("") == 0);
    assert(words("one") == 1);
    assert(words("  one\ttwo \n three ") == 3);
    assert(text_characters("na\xc3\xafve", 6) == 5);
    assert(text_fits_title("short", 5));
    return 0;
}

/* Counts the words and characters of its standard input. */
#include <stdio.h>
#include <stdlib.h>

#include "text.h"

int main(void) {
    size_t length = 0, room = 1 << 16;
    char *text = malloc(room);
    while (text != NULL) {
        size_t got = fread(text + length, 1, room - length, stdin);
        if (got == 0) {
            break;
        }
        length += got;
        if (length == room) {
            text = realloc(text, room *= 2);
        }
    }
    if (text == NULL || ferror(stdin)) {
        perror("count");
        return 1;
    }
    printf("%zu words, %zu characters\n", text_words(text, length), text_characters(text, length));
    free(text);
    return 0;
}

// Package slug makes the names of pages.
package slug

import (
	"strings"
	"unicode"

	"example.com/slug/limits"
)

// Of makes a name for the address of a page from its title: `Hello, World!` becomes `hello-world`.
func Of(title string) string {
	words := strings.FieldsFunc(strings.ToLower(title), func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r)
	})
	slug := []rune(strings.Join(words, "-"))
	return strings.TrimRight(string(slug[:min(len(slug), limits.Title)]), "-")
}

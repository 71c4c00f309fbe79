package slug

import (
	"strings"
	"testing"
)

func TestOf(t *testing.T) {
	for title, want := range map[string]string{
		"Hello, World!":           "hello-world",
		"  ":                      "",
		"Größe 42":                "größe-42",
		strings.Repeat("a ", 100): strings.TrimRight(strings.Repeat("a-", 30), "-"),
	} {
		if got := Of(title); got != want {
			t.Errorf("Of(%q) is %q, not %q", title, got, want)
		}
	}
}

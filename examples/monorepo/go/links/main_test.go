package main

import (
	"bufio"
	"fmt"
	"net"
	"testing"
)

func TestAnswer(t *testing.T) {
	client, server := net.Pipe()
	go answer(server)
	defer client.Close()
	fmt.Fprintln(client, "Hello, World!")
	got, err := bufio.NewReader(client).ReadString('\n')
	if want := "https://example.com/hello-world\n"; err != nil || got != want {
		t.Errorf("got %q (%v), not %q", got, err, want)
	}
}

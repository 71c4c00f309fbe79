// Links is a service: who sends it the title of a page gets the page's address back, line by line.
package main

import (
	"bufio"
	"fmt"
	"log"
	"net"

	"example.com/slug"
)

func main() {
	listener, err := net.Listen("tcp", ":7070")
	if err != nil {
		log.Fatal(err)
	}
	for {
		connection, err := listener.Accept()
		if err != nil {
			log.Fatal(err)
		}
		go answer(connection)
	}
}

func answer(connection net.Conn) {
	defer connection.Close()
	titles := bufio.NewScanner(connection)
	for titles.Scan() {
		fmt.Fprintf(connection, "https://example.com/%s\n", slug.Of(titles.Text()))
	}
}

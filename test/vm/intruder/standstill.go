package main

import (
	"runtime"
	"strconv"
	"time"
)

// standStill stops all of itself again and again, for as long as it takes to write down what so many goroutines
// do. It ends when it is killed.
func standStill(goroutines string) error {
	n, err := strconv.Atoi(goroutines)
	if err != nil {
		return err
	}
	for range n {
		go func() { select {} }()
	}
	const bytesOfEach = 512 // more than is written of one
	written := make([]byte, (n+16)*bytesOfEach)
	for {
		runtime.Stack(written, true)
		time.Sleep(200 * time.Millisecond)
	}
}

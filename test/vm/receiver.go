package vm

import (
	"bufio"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
)

// receiver takes apart what comes over the second serial port.
type receiver struct {
	live    io.Writer
	start   time.Time
	boot    time.Duration
	results []Result
	current *Result
	began   time.Time
	file    incoming
	ended   bool
}

// incoming is a file on its way.
type incoming struct {
	name string
	size int
	data []byte
}

func (r *receiver) read(from io.Reader) error {
	lines := bufio.NewReaderSize(from, 1<<16)
	for {
		text, err := lines.ReadString('\n')
		if text != "" {
			r.line(strings.TrimRight(text, "\r\n"))
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (r *receiver) line(text string) {
	// A program may have left its last line open.
	if i := strings.IndexByte(text, MarkEnd[0]); i > 0 {
		r.line(text[:i])
		text = text[i:]
	}
	switch {
	case strings.HasPrefix(text, MarkReady):
		r.boot = time.Since(r.start)
	case strings.HasPrefix(text, MarkStep):
		r.current, r.began = &Result{Step: text[len(MarkStep):], Code: -1, Files: map[string][]byte{}}, time.Now()
	case strings.HasPrefix(text, MarkEnd):
		r.ended = true
	case r.current == nil:
	case strings.HasPrefix(text, MarkFile):
		r.closeFile()
		name, size, _ := strings.Cut(text[len(MarkFile):], " ")
		if n, err := strconv.Atoi(size); err == nil {
			r.file = incoming{name: name, size: n}
		}
	case strings.HasPrefix(text, MarkData):
		// A damaged line leaves the file incomplete.
		if data, err := base64.StdEncoding.DecodeString(text[len(MarkData):]); err == nil {
			r.file.data = append(r.file.data, data...)
		}
	case strings.HasPrefix(text, MarkExit):
		r.closeFile()
		if code, err := strconv.Atoi(text[len(MarkExit):]); err == nil {
			r.current.Code = code
		}
		r.current.Took = time.Since(r.began)
		r.results = append(r.results, *r.current)
		r.current = nil
	default:
		r.current.Output = append(append(r.current.Output, text...), '\n')
		if r.live != nil {
			fmt.Fprintln(r.live, text)
		}
	}
}

// closeFile keeps what has arrived if it is complete.
func (r *receiver) closeFile() {
	if r.file.name != "" && len(r.file.data) == r.file.size {
		r.current.Files[r.file.name] = r.file.data
	}
	r.file = incoming{}
}

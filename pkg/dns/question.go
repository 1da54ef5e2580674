// Package dns reads the question of a message to a name server: which name is asked for (RFC 1035), and what one looks
// at to tell data in a name from a name. It must never look at anything else of a message, and never allocate: it
// reads whatever anybody sends to a name server's port.
//
//	q, ok := dns.Read(message)
//	fmt.Println(q.Name, q.Type, q.Entropy)
package dns

import (
	"math"
	"strings"
	"unsafe"
)

// Bounds of RFC 1035.
const (
	MaxLabel = 63  // bytes of a label
	MaxName  = 253 // bytes of a name as text, without the final dot

	headerBytes = 12
)

// Bits of the header's third byte.
const (
	isResponse = 0x80
	opcode     = 0x78 // 0: a query
)

// Question is the first one of a query.
type Question struct {
	Name    string // in small letters, without the final dot; that of the root is "."
	Type    Type
	Labels  int // of the name
	Longest int // bytes of its longest label
	Entropy int // of the bytes of its labels, in hundredths of a bit for each (Shannon); small and large letters are one
}

// Read finds the question of a message, of which the rest may be missing; false: it is no query, or its question is not
// whole. The name is written in place of the question: it aliases the message, which nobody else may read after that.
// Bytes of a label that are a dot or cannot be printed are written as '?'.
func Read(message []byte) (Question, bool) {
	if len(message) < headerBytes || message[2]&(isResponse|opcode) != 0 || message[4]|message[5] == 0 {
		return Question{}, false
	}
	var q Question
	var s sample
	body := message[headerBytes:]
	at := 0
	for {
		if at >= len(body) {
			return Question{}, false
		}
		n := int(body[at])
		if n == 0 {
			break
		}
		// A pointer has nothing to point to in the first name.
		if n > MaxLabel || at+n > MaxName || at+1+n > len(body) {
			return Question{}, false
		}
		label := body[at+1 : at+1+n]
		s.add(label)
		clean(label)
		body[at] = '.'
		q.Labels++
		q.Longest = max(q.Longest, n)
		at += 1 + n
	}
	if at+5 > len(body) { // the end of the name, type and class
		return Question{}, false
	}
	q.Type = Type(body[at+1])<<8 | Type(body[at+2])
	q.Entropy = s.entropy()
	q.Name = "."
	if at > 0 {
		q.Name = unsafe.String(&body[1], at-1)
	}
	return q, true
}

// Ask makes the question for a name, as Read finds it; false: the name is too long, or a part of it.
func Ask(name string, t Type) (Question, bool) {
	if len(name) > MaxName+1 {
		return Question{}, false
	}
	message := make([]byte, headerBytes, headerBytes+MaxName+6)
	message[5] = 1
	for label := range strings.SplitSeq(strings.TrimSuffix(name, "."), ".") {
		if label == "" && name != "." || len(label) > MaxLabel {
			return Question{}, false
		}
		if label != "" {
			message = append(append(message, byte(len(label))), label...)
		}
	}
	return Read(append(message, 0, byte(t>>8), byte(t), 0, 1))
}

// clean writes a label as it is shown.
func clean(label []byte) {
	for i, c := range label {
		label[i] = small(c)
		if c <= ' ' || c >= 0x7f || c == '.' {
			label[i] = '?'
		}
	}
}

func small(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

// sample counts bytes.
type sample struct {
	each [256]uint8 // a name has fewer bytes than one of these can count
	all  int
}

func (s *sample) add(label []byte) {
	for _, c := range label {
		s.each[small(c)]++
	}
	s.all += len(label)
}

func (s *sample) entropy() int {
	sum := 0.0
	for _, n := range s.each {
		if n > 0 {
			p := float64(n) / float64(s.all)
			sum -= p * math.Log2(p)
		}
	}
	return int(math.Round(100 * sum))
}

// Domain is the end of a name that somebody may have registered, as a guess: its last two labels.
func Domain(name string) string {
	if end := strings.LastIndexByte(name, '.'); end > 0 {
		return name[strings.LastIndexByte(name[:end], '.')+1:]
	}
	return name
}

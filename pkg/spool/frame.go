package spool

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// A segment is a header and frames, all little endian.
//
//	header: magic [8], epoch u64, severity u8, zero [3], CRC-32C of the first 20 bytes u32
//	frame:  length of data u32, CRC-32C of (length, seq, data) u32, seq u64, data
const (
	magic       = "PLSPOOL1"
	headerBytes = 24
	frameBytes  = 16
)

// MaxAlert is the longest alert that is kept, in bytes; the bus would refuse more than 1 MiB.
const MaxAlert = 512 << 10

var errTorn = errors.New("torn or damaged frame")

func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

func appendHeader(b []byte, epoch uint64, severity uint8) []byte {
	start := len(b)
	b = append(b, magic...)
	b = binary.LittleEndian.AppendUint64(b, epoch)
	b = append(b, severity, 0, 0, 0)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b[start:], castagnoli()))
}

func parseHeader(b []byte) (epoch uint64, severity uint8, err error) {
	switch {
	case len(b) < headerBytes:
		return 0, 0, fmt.Errorf("read segment header: %d bytes: %w", len(b), errTorn)
	case string(b[:8]) != magic:
		return 0, 0, fmt.Errorf("read segment header: no magic: %w", errTorn)
	case crc32.Checksum(b[:20], castagnoli()) != binary.LittleEndian.Uint32(b[20:]):
		return 0, 0, fmt.Errorf("read segment header: checksum: %w", errTorn)
	case int(b[16]) >= lanes:
		return 0, 0, fmt.Errorf("read segment header: severity %d: %w", b[16], errTorn)
	}
	return binary.LittleEndian.Uint64(b[8:]), b[16], nil
}

func frameSum(head, data []byte) uint32 {
	sum := crc32.Update(0, castagnoli(), head[:4])
	sum = crc32.Update(sum, castagnoli(), head[8:frameBytes])
	return crc32.Update(sum, castagnoli(), data)
}

func appendFrame(b []byte, seq uint64, data []byte) []byte {
	var head [frameBytes]byte
	binary.LittleEndian.PutUint32(head[0:], uint32(len(data)))
	binary.LittleEndian.PutUint64(head[8:], seq)
	binary.LittleEndian.PutUint32(head[4:], frameSum(head[:], data))
	return append(append(b, head[:]...), data...)
}

// parseFrame returns the frame at the start of b; data aliases b.
func parseFrame(b []byte) (seq uint64, data []byte, err error) {
	if len(b) < frameBytes {
		return 0, nil, errTorn
	}
	n := binary.LittleEndian.Uint32(b)
	if n > MaxAlert || int(n) > len(b)-frameBytes {
		return 0, nil, errTorn
	}
	data = b[frameBytes : frameBytes+int(n)]
	if frameSum(b[:frameBytes], data) != binary.LittleEndian.Uint32(b[4:]) {
		return 0, nil, errTorn
	}
	return binary.LittleEndian.Uint64(b[8:]), data, nil
}

// scan calls visit for each whole frame of a segment, with the frame's place in b. It returns the
// header's fields and whether bytes were left that are no frame: a write that did not finish, or
// damage. What follows damage cannot be told from data and is given up.
func scan(b []byte, visit func(seq uint64, off, size int)) (epoch uint64, severity uint8, torn bool, err error) {
	epoch, severity, err = parseHeader(b)
	if err != nil {
		return 0, 0, true, err
	}
	for off := headerBytes; off < len(b); {
		seq, data, err := parseFrame(b[off:])
		if err != nil {
			return epoch, severity, true, nil
		}
		size := frameBytes + len(data)
		visit(seq, off, size)
		off += size
	}
	return epoch, severity, false, nil
}

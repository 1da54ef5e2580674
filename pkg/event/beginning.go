package event

// Beginning is what a TCP connection begins with. The values are bpf/operation.h's.
type Beginning uint8

// The beginnings.
const (
	BeginsUnknown Beginning = iota
	BeginsTLS
	BeginsUpgrade   // a request that TLS may follow
	BeginsPlaintext // anything else
)

// Beginnings lists those that are known.
func Beginnings() []Beginning { return []Beginning{BeginsTLS, BeginsUpgrade, BeginsPlaintext} }

func (b Beginning) String() string {
	switch b {
	case BeginsTLS:
		return "tls"
	case BeginsUpgrade:
		return "upgrade"
	case BeginsPlaintext:
		return "plaintext"
	}
	return ""
}

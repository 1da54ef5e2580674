package dns

import (
	"strconv"
	"strings"
)

// Type is what is asked about a name.
type Type uint16

// String is the type's name, or TYPE and its number (RFC 3597).
func (t Type) String() string { return string(t.Append(nil)) }

// Append is String without an allocation.
func (t Type) Append(dst []byte) []byte {
	if name := t.name(); name != "" {
		return append(dst, name...)
	}
	return strconv.AppendUint(append(dst, "TYPE"...), uint64(t), 10)
}

// ParseType reads what String writes.
func ParseType(s string) (Type, bool) {
	for t := range Type(lastNamed + 1) {
		if t.name() == s && s != "" {
			return t, true
		}
	}
	number, isNumber := strings.CutPrefix(s, "TYPE")
	n, err := strconv.ParseUint(number, 10, 16)
	return Type(n), isNumber && err == nil && Type(n).String() == s
}

const lastNamed = 257

// name of those that are asked for, in IANA's list.
func (t Type) name() string {
	switch t {
	case 1:
		return "A"
	case 2:
		return "NS"
	case 5:
		return "CNAME"
	case 6:
		return "SOA"
	case 10:
		return "NULL"
	case 12:
		return "PTR"
	case 15:
		return "MX"
	case 16:
		return "TXT"
	case 28:
		return "AAAA"
	case 33:
		return "SRV"
	case 35:
		return "NAPTR"
	case 43:
		return "DS"
	case 48:
		return "DNSKEY"
	case 52:
		return "TLSA"
	case 64:
		return "SVCB"
	case 65:
		return "HTTPS"
	case 255:
		return "ANY"
	case lastNamed:
		return "CAA"
	}
	return ""
}

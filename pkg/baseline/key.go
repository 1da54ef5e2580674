package baseline

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/plumbline-io/plumbline/pkg/event"
)

// The room that the kernel's key has, without the final NUL.
const (
	maxPath   = 255
	maxPrefix = 240 // of what comes before the asterisks of a pattern
)

// check tells what is wrong with a key. No two keys that it accepts have the same text.
func check(k event.Key) error {
	bare := event.Key{Op: k.Op}
	var err error
	switch {
	case k.Op.OnlyTold():
		return fmt.Errorf("%s is told for rules, and in no baseline", k.Op)
	case k.Op.OnPath():
		bare.Path = k.Path
		err = checkPath(k)
	case k.Op.OnAddress():
		bare.Protocol, bare.Address, bare.Port = k.Protocol, k.Address, k.Port
		if k.Address != k.Address.Masked() {
			err = fmt.Errorf("address: %s has bits behind its length: want %s", k.Address, k.Address.Masked())
		}
	case k.Op.OnNumber():
		bare.Value = k.Value
		if again, wrong := event.ParseValue(k.Op, event.ValueName(k.Op, k.Value)); wrong != nil || again != k.Value {
			err = fmt.Errorf("value: %d is no value of %s", k.Value, k.Op)
		} else if k.Value != 0 && !hasValue(k.Op) {
			err = fmt.Errorf("value: %s has none", k.Op)
		}
	default:
		err = fmt.Errorf("unknown operation %s", k.Op)
	}
	if err == nil && k != bare {
		err = fmt.Errorf("more is given than %s is about", k.Op)
	}
	return err
}

func checkPath(k event.Key) error {
	named := strings.HasPrefix(k.Path, "/")
	switch k.Op.Dimension() {
	case event.DimFile: // the kernel side writes [pipefs] and the like for what has no name
		named = named || strings.HasPrefix(k.Path, "[")
	case event.DimUnix: // abstract sockets
		named = named || strings.HasPrefix(k.Path, "[") || strings.HasPrefix(k.Path, "@")
	}
	switch {
	case !named || len(k.Path) > maxPath:
		return fmt.Errorf("%.300q is no absolute path of at most %d bytes", k.Path, maxPath)
	case isPattern(k.Path) && k.Path[0] != '/':
		return fmt.Errorf("%.300q is no pattern: it is below no directory", k.Path)
	case isPattern(k.Path) && len(directory(k.Path)) > maxPrefix:
		return fmt.Errorf("%.300q has more than %d bytes before the asterisks", k.Path, maxPrefix)
	}
	return nil
}

// hasValue says whether there is more than one thing that the operation can be on.
func hasValue(o event.Operation) bool {
	switch o {
	case event.OpUserns, event.OpModule, event.OpPerf, event.OpIOUring, event.OpUserfault, event.OpKeyctl:
		return false
	}
	return o.OnNumber()
}

// compare is the order of the text form.
func compare(a, b event.Key) int {
	return cmp.Or(
		cmp.Compare(a.Op.Dimension(), b.Op.Dimension()),
		cmp.Compare(a.Path, b.Path),
		cmp.Compare(a.Op, b.Op),
		cmp.Compare(a.Protocol, b.Protocol),
		a.Address.Addr().Compare(b.Address.Addr()),
		cmp.Compare(a.Address.Bits(), b.Address.Bits()),
		cmp.Compare(a.Port, b.Port),
		cmp.Compare(a.Value, b.Value),
	)
}

// ParseKey reads what Key.String writes, and nothing else.
func ParseKey(text string) (event.Key, error) {
	k, err := readKey(text)
	if err == nil {
		err = check(k)
	}
	if err == nil && k.String() != text {
		err = fmt.Errorf("want %q", k)
	}
	if err != nil {
		return event.Key{}, fmt.Errorf("parse key %.300q: %w", text, err)
	}
	return k, nil
}

func readKey(text string) (k event.Key, err error) {
	if strings.HasPrefix(text, "/") {
		return event.Key{Op: event.OpExec, Path: text}, nil
	}
	word, rest, _ := strings.Cut(text, " ")
	if k.Op, err = event.ParseOperation(word); err != nil {
		return k, err
	}
	switch {
	case k.Op.OnPath():
		k.Path = rest
	case k.Op.OnAddress():
		f := strings.Split(rest, " ")
		if len(f) != 4 || f[2] != "port" {
			return k, errors.New("want protocol, address, and port with its number")
		}
		return readAddress(k.Op, f[0], f[1], f[3])
	default:
		k.Value, err = event.ParseValue(k.Op, rest)
	}
	return k, err
}

func readAddress(op event.Operation, protocol, address, port string) (k event.Key, err error) {
	k.Op = op
	if k.Protocol, err = event.ParseProtocol(protocol); err != nil {
		return k, err
	}
	if address != "any" {
		if k.Address, err = parseAddress(address); err != nil {
			return k, err
		}
	}
	if port != "any" {
		k.Port, err = parsePort(port)
	}
	return k, err
}

func parsePort(text string) (uint16, error) {
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("port: %.60q is no number from 1 to 65535", text)
	}
	return uint16(n), nil
}

// parseAddress reads an address or a prefix.
func parseAddress(text string) (netip.Prefix, error) {
	prefix, err := netip.ParsePrefix(text)
	if addr, single := netip.ParseAddr(text); single == nil && addr.Zone() == "" {
		prefix, err = netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("address: %.60q is no address or prefix", text)
	}
	return prefix, nil
}

func addressText(prefix netip.Prefix) string {
	if prefix.IsSingleIP() {
		return prefix.Addr().String()
	}
	return prefix.String()
}

package baseline

import (
	"strings"

	"github.com/plumbline-io/plumbline/pkg/event"
)

// isPattern says whether a path stands for everything below a directory.
func isPattern(path string) bool { return strings.HasSuffix(path, "/**") }

// IsPattern says whether a key's path stands for everything below a directory. A file may be called like one.
func IsPattern(k event.Key) bool { return isPattern(k.Path) }

// directory of a pattern, with its slash.
func directory(pattern string) string { return strings.TrimSuffix(pattern, "**") }

// isWide says whether a key stands for more than one.
func isWide(k event.Key) bool {
	return isPattern(k.Path) || k.Op.OnAddress() && (k.Port == 0 || !k.Address.IsSingleIP())
}

// Allows says whether a key is listed, or is one of those that a listed one stands for. All that the
// profile does not speak about is allowed.
func (p *Profile) Allows(k event.Key) bool {
	if !p.held.Has(k.Op.Dimension()) {
		return true
	}
	_, e := p.find(k)
	return e != nil
}

// find returns the narrowest entry that allows a key, nil if none does.
func (p *Profile) find(k event.Key) (event.Key, *entry) {
	if e := p.entries.get(k); e != nil {
		return k, e
	}
	return p.wider(k)
}

// wider returns the narrowest entry that stands for a key and is not the key itself.
func (p *Profile) wider(k event.Key) (event.Key, *entry) {
	if k.Op.OnAddress() {
		return p.widerAddress(k)
	}
	if len(p.below) == 0 {
		return event.Key{}, nil
	}
	for dir := k.Path; ; dir = dir[:len(dir)-1] {
		i := strings.LastIndexByte(dir, '/')
		if i < 0 {
			return event.Key{}, nil
		}
		dir = dir[:i+1]
		if by, ok := p.below[event.Key{Op: k.Op, Path: dir}]; ok && by != k && len(dir) < len(k.Path) {
			return by, p.entries.get(by)
		}
	}
}

// widerAddress tries the port before any port, for each prefix from the longest to none.
func (p *Profile) widerAddress(k event.Key) (event.Key, *entry) {
	by := k
	for {
		for _, by.Port = range [...]uint16{k.Port, 0} {
			if e := p.entries.get(by); e != nil && by != k {
				return by, e
			}
		}
		if !by.Address.IsValid() {
			return event.Key{}, nil
		}
		// The prefix one bit shorter; that of length -1 is not valid: any address.
		by.Address, _ = by.Address.Addr().Prefix(by.Address.Bits() - 1)
	}
}

// settle removes the entries that wider ones stand for, and counts them there.
func (p *Profile) settle() {
	for k, e := range p.entries.all() {
		if _, into := p.wider(k); into != nil {
			into.fold(e)
			p.remove(k)
		}
	}
}

package rule

import (
	"github.com/plumbline-io/plumbline/pkg/dns"
	"github.com/plumbline-io/plumbline/pkg/event"
)

// questions are the datagrams to name servers. What is no query has none of their fields.
func questions() classes { return opsOf(event.OpDNSQuery) }

// nameLength is the field that the kernel filters by.
const nameLength = "dns.name_length"

func dnsFields() []field {
	str := func(name string, get func(*dns.Question) string) field {
		return text(name, questions(), func(e *Env) string { return get(&e.Event.Access.Question) })
	}
	num := func(name string, get func(*dns.Question) int) field {
		return number(name, questions(), func(e *Env) (int64, bool) {
			q := &e.Event.Access.Question
			return int64(get(q)), q.Name != ""
		})
	}
	kind := text("dns.type", questions(), func(e *Env) string {
		from := len(e.text)
		if q := &e.Event.Access.Question; q.Name != "" {
			e.text = q.Type.Append(e.text)
		}
		return e.since(from)
	})
	kind.writes = true
	return []field{
		kind,
		str("dns.name", func(q *dns.Question) string { return q.Name }),
		str("dns.domain", func(q *dns.Question) string { return dns.Domain(q.Name) }),
		num(nameLength, func(q *dns.Question) int { return len(q.Name) }),
		num("dns.labels", func(q *dns.Question) int { return q.Labels }),
		num("dns.longest_label", func(q *dns.Question) int { return q.Longest }),
		num("dns.entropy", func(q *dns.Question) int { return q.Entropy }),
	}
}

// lengthBound is the shortest name that a check on its length holds for.
func lengthBound(op string, values []string) bound {
	least := int64(dns.MaxName)
	for _, v := range values {
		n, err := parseNumber(v)
		if err != nil {
			return bound{}
		}
		if !isEqual(op) {
			var ok bool
			if n, _, ok = interval(op, []int64{n}); !ok || len(values) > 1 {
				return bound{}
			}
		}
		least = min(least, n)
	}
	return bound{longer: int(max(least, 0))}
}

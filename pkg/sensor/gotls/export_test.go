package gotls

// InFlight counts the handshakes that have begun and not ended.
func InFlight(s *Sensor) int {
	var (
		key   bpfConnKey
		value bpfConnState
		n     int
	)
	for entries := s.objects.HandshakesActive.Iterate(); entries.Next(&key, &value); {
		n++
	}
	return n
}

// WaitDetached returns when the probes of forgotten processes are gone.
func WaitDetached(s *Sensor) { _ = s.follows.Close() }

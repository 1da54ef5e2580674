package bus

// Kept counts the alerts that JetStream has acknowledged and nobody has stored yet.
func Kept(p *Publisher) (n int) {
	p.flights.mu.Lock()
	defer p.flights.mu.Unlock()
	for _, f := range p.flights.all {
		if f.kept {
			n++
		}
	}
	return n
}

// ReadPassword is what clients do with a password's file.
func ReadPassword(path string) (string, error) { return readPassword(path) }

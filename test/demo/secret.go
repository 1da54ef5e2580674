package main

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// What client and service tell each other over TLS, and nobody else: each request brings it, and the answer has it.
const (
	secretFile = "secret"        // the service reads it
	headerFile = "secret.header" // curl does
)

func (s *stage) makeSecret() error {
	s.secret = rand.Text()
	if err := os.WriteFile(s.file(secretFile), []byte(s.secret), 0o600); err != nil {
		return fmt.Errorf("write secret: %w", err)
	}
	if err := os.WriteFile(s.file(headerFile), []byte("X-Secret: "+s.secret+"\n"), 0o600); err != nil {
		return fmt.Errorf("write secret: %w", err)
	}
	return nil
}

// unheard looks for the secret in all that agent and control plane have written or can be asked for.
func (s *stage) unheard() error {
	answer, err := s.fetch("/balance")
	if err != nil || !strings.Contains(answer, s.secret) {
		return fmt.Errorf("ask for the secret: %q, %w", answer, err)
	}
	told, err := s.tool("plumbline-agent", "status", "--socket", s.socket, "-o", "json")
	if err != nil {
		return err
	}
	if strings.Contains(told, s.secret) {
		return fmt.Errorf("look for plaintext: plumbline-agent status has it")
	}
	files := 0
	if err := filepath.WalkDir(s.dir, func(name string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() || e.Name() == secretFile || e.Name() == headerFile {
			return err
		}
		data, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		if bytes.Contains(data, []byte(s.secret)) {
			return fmt.Errorf("%s has it", name)
		}
		files++
		return nil
	}); err != nil {
		return fmt.Errorf("look for plaintext: %w", err)
	}
	explain("What client and service told each other over TLS stands in none of the %d files of agent and control plane.", files)
	return nil
}

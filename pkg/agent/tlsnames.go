package agent

import (
	"crypto/tls"
	"fmt"
)

// versionName is a TLS version as the standards write it.
func versionName(v uint16) string {
	if v == 0 {
		return "unknown"
	}
	return tls.VersionName(v)
}

// suiteName is the IANA name of a cipher suite, or its number where Go does not know it.
func suiteName(s uint16) string {
	if s == 0 {
		return "unknown"
	}
	if name := tls.CipherSuiteName(s); name != fmt.Sprintf("0x%04X", s) {
		return name
	}
	return fmt.Sprintf("0x%04x", s)
}

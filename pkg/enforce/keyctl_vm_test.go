package enforce_test

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/plumbline-io/plumbline/pkg/enforce"
	"github.com/plumbline-io/plumbline/pkg/event"
	"github.com/plumbline-io/plumbline/pkg/sensor/sensortest"
)

// signedModule is the deed of loading what is no module, signed by somebody whom the kernel does not know.
const signedModule = "load signed module"

// signature is that of RFC 5652, as far as it is used for modules.
type signature struct {
	Version int
	Digests []pkix.AlgorithmIdentifier `asn1:"set"`
	Content struct{ Type asn1.ObjectIdentifier }
	Signers []signer `asn1:"set"`
}

type signer struct {
	Version int
	Who     struct {
		Issuer pkix.RDNSequence
		Serial *big.Int
	}
	Digest, Algorithm pkix.AlgorithmIdentifier
	Signature         []byte
}

// signed is a file with a signature behind it that is right in its form.
func signed(content []byte) ([]byte, error) {
	digest := pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}, Parameters: asn1.NullRawValue}
	by := signer{Version: 1, Digest: digest, Signature: make([]byte, 256)}
	by.Algorithm = pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}, Parameters: asn1.NullRawValue}
	by.Who.Issuer, by.Who.Serial = pkix.Name{CommonName: "nobody"}.ToRDNSequence(), big.NewInt(4711)
	s := signature{Version: 1, Digests: []pkix.AlgorithmIdentifier{digest}, Signers: []signer{by}}
	s.Content.Type = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}
	der, err := asn1.Marshal(struct {
		Type asn1.ObjectIdentifier
		Data signature `asn1:"explicit,tag:0"`
	}{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2}, s})
	if err != nil {
		return nil, err
	}
	what := [12]byte{2: 2} // include/linux/module_signature.h: the kind, and the length
	binary.BigEndian.PutUint32(what[8:], uint32(len(der)))
	return append(append(append(content, der...), what[:]...), "~Module signature appended~\n"...), nil
}

func loadSigned(dir string) error {
	file, err := signed([]byte("no module"))
	if err != nil {
		return err
	}
	if err := os.WriteFile(dir+"/module", file, 0o600); err != nil {
		return err
	}
	fd, err := unix.Open(dir+"/module", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.FinitModule(fd, "", 0); !errors.Is(err, unix.ENOEXEC) && !errors.Is(err, unix.ENOKEY) {
		return fmt.Errorf("load what is no module: %w", err)
	}
	return nil
}

// When the kernel looks for who has signed a module among the keys that it has for itself, that is no use of a key by
// who loads it.
func TestKernelKeys(t *testing.T) {
	if !sensortest.InVM() {
		t.Skip("what is no module is loaded")
	}
	sensortest.OnlyOn(t, "5.10", "6.12")
	k, scope := use(t, enforce.LSM, event.AllDimensions)
	scope.Held = event.Dimensions(0).With(event.DimPrivilege)
	w, does, key := k.trial(t, scope), newDoer(t, scope), event.Key{Op: event.OpKeyctl}
	scope.Set(t, event.AuditMode, 1)
	if code := does.run(t, signedModule, t.TempDir()); code != 0 {
		t.Fatalf("error number %d", code)
	}
	scope.Set(t, event.AuditMode, 2) // whose first use of a key is told, whatever was told of the first
	if code := does.run(t, "key", ""); code != 0 {
		t.Fatalf("make a key: error number %d", code)
	}
	sensortest.Until(t, "the key that was made is told", func() bool { return w.told(key) > 0 })
	if n := w.told(key); n != 1 || w.told(event.Key{Op: event.OpModule}) != 1 {
		t.Errorf("keys are told %d times, modules %d times", n, w.told(event.Key{Op: event.OpModule}))
	}
}

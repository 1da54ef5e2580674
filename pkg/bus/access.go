package bus

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/plumbline-io/plumbline/pkg/wholefile"
)

// Server is the control plane's NATS server, as its Hub needs it: see natsserver. It may be stopped and started again
// meanwhile.
type Server interface {
	InProcessConn() (net.Conn, error)
	// Password is that of the control plane's own connection.
	Password() string
	// Sync makes a new stream durable.
	Sync() error
}

// The users of the server.
const (
	AgentUser    = "agent"
	OperatorUser = "operator"

	controlPlaneUser = "controlplane"
)

// User of the server. Without subjects, all are allowed.
type User struct {
	Name, Password     string
	Publish, Subscribe []string // subjects
}

// Users says who may do what. An agent, of the tenant, cannot read alerts, nor anything of JetStream; an operator can
// ask the control plane, nothing else. own is the password of the control plane's own connection.
func Users(dataDir, tenant, own string) ([]User, error) {
	agent, err := readPassword(PasswordFile(dataDir, AgentUser))
	if err != nil {
		return nil, err
	}
	operator, err := readPassword(PasswordFile(dataDir, OperatorUser))
	if err != nil {
		return nil, err
	}
	tenants := token(tenant) + ".>"
	return []User{
		{Name: controlPlaneUser, Password: own},
		{
			Name: AgentUser, Password: agent,
			Publish:   []string{alertSubjects + "." + tenants, heartbeatSubjects + "." + tenants, askSubjects + "." + tenants},
			Subscribe: []string{storedSubjects + "." + tenants, inbox(AgentUser) + ".>"},
		},
		{
			Name: OperatorUser, Password: operator,
			Publish:   []string{apiSubjects + ".>"},
			Subscribe: []string{storedSubjects + ".>", inbox(OperatorUser) + ".>"},
		},
	}, nil
}

func inbox(user string) string { return "_INBOX." + user }

// MakePasswords makes those that do not exist: agent.password and operator.password in dataDir, readable by the owner
// only.
func MakePasswords(dataDir string) error {
	for _, user := range [...]string{AgentUser, OperatorUser} {
		if err := makePassword(PasswordFile(dataDir, user)); err != nil {
			return err
		}
	}
	return nil
}

// PasswordFile is where the password of a user is kept.
func PasswordFile(dataDir, user string) string { return filepath.Join(dataDir, user+".password") }

// makePassword never leaves a half-written file: the content comes before the name.
func makePassword(path string) error {
	if _, err := os.Stat(path); err == nil || !errors.Is(err, os.ErrNotExist) {
		if err == nil {
			_, err = readPassword(path)
		}
		return err
	}
	var b [24]byte
	if _, err := rand.Read(b[:]); err != nil {
		return fmt.Errorf("make password: %w", err)
	}
	if err := wholefile.Write(path, []byte(base64.RawURLEncoding.EncodeToString(b[:])+"\n"), 0o600); err != nil {
		return fmt.Errorf("write password: %w", err)
	}
	return nil
}

func readPassword(path string) (string, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("read password: %w", err)
	}
	text := strings.TrimSpace(string(b))
	if text == "" {
		return "", fmt.Errorf("read password: %s is empty", path)
	}
	return text, nil
}

// StreamBytes is how much of the stream may wait for the store on disk; more waits in the spools.
const StreamBytes = 1 << 30

// MaxPayload of one message, in bytes.
const MaxPayload = 1 << 20

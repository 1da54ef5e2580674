package bus

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

const maxReconnectWait = 30 * time.Second

// reconnectDelay is the wait before an attempt: exponential with full jitter, so that a fleet does
// not come back at once.
func reconnectDelay(limit time.Duration) func(int) time.Duration {
	return func(attempt int) time.Duration {
		ceiling := min(limit, 100*time.Millisecond<<min(attempt, 16))
		return 50*time.Millisecond + rand.N(ceiling)
	}
}

// forever returns the options of a connection that never gives up and never buffers: what could not
// be sent stays where it is.
func forever(name string, limit time.Duration) []nats.Option {
	return []nats.Option{
		nats.Name(name),
		nats.MaxReconnects(-1),
		nats.RetryOnFailedConnect(true),
		nats.IgnoreAuthErrorAbort(),
		nats.ReconnectBufSize(-1),
		nats.CustomReconnectDelay(reconnectDelay(limit)),
		nats.Timeout(5 * time.Second),
	}
}

// credentials reads the password anew for each attempt, so that a file that is written later, or
// changed, works without a restart. note is told what is wrong with it.
func credentials(user, file string, note func(error)) nats.Option {
	return nats.UserInfoHandler(func() (string, string) {
		password, err := readPassword(file)
		if err != nil {
			note(fmt.Errorf("%w: %w", ErrNoPassword, err))
		}
		return user, password
	})
}

// hintFor says what a user can do about the error of an agent's connection.
func hintFor(err error) string {
	switch {
	case errors.Is(err, ErrNoPassword), errors.Is(err, ErrRefused):
		return "the password file must be a copy of agent.password in the control plane's data directory"
	default:
		return "see that plumbline serve runs there and that nothing is in the way; the agent goes on trying"
	}
}

// lostError is about a connection that there was; NATS knows no reason if the other side just closed it.
func lostError(url string, err error) error {
	if err == nil {
		return fmt.Errorf("connection to %s: %w", url, ErrUnreachable)
	}
	return connectError(url, err)
}

// connectError says in our words what NATS meant.
func connectError(url string, err error) error {
	var timeout net.Error
	switch {
	case errors.Is(err, nats.ErrAuthorization), errors.Is(err, nats.ErrAuthExpired), strings.Contains(strings.ToLower(err.Error()), "authorization violation"):
		return fmt.Errorf("connect to %s: %w", url, ErrRefused)
	case errors.Is(err, nats.ErrNoServers), errors.Is(err, nats.ErrTimeout), errors.As(err, &timeout):
		return fmt.Errorf("connect to %s: %w: %w", url, ErrUnreachable, err)
	}
	return fmt.Errorf("connect to %s: %w: %w", url, ErrUnreachable, err)
}

package output

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"

	"github.com/plumbline-io/plumbline/pkg/alert"
)

// HTTPConfig of a receiver of Falco's alerts, such as falcosidekick.
type HTTPConfig struct {
	URL    string // http or https
	CAFile string // PEM; "": the system's roots
}

// HTTP posts one alert per request. It follows no redirect.
type HTTP struct {
	url    string
	client *http.Client
}

// maxReason bounds what of an answer is read: to quote it, and to use the connection again.
const maxReason = 4 << 10

// NewHTTP checks the configuration and reads the CA file. It does not connect.
func NewHTTP(cfg HTTPConfig) (*HTTP, error) {
	if err := CheckHTTP(cfg.URL); err != nil {
		return nil, err
	}
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, MaxIdleConns: 1, ForceAttemptHTTP2: true}
	if cfg.CAFile != "" {
		pem, err := os.ReadFile(cfg.CAFile)
		if err != nil {
			return nil, fmt.Errorf("read CA file: %w", err)
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("read CA file %s: no certificate in PEM form", cfg.CAFile)
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: pool}
	}
	return &HTTP{url: cfg.URL, client: &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// CheckHTTP says what is wrong with the URL of a receiver.
func CheckHTTP(address string) error {
	u, err := url.Parse(address)
	if err != nil {
		// Its own text would quote the password.
		return errors.New("read URL of HTTP receiver: not a URL")
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
		return fmt.Errorf("read URL of HTTP receiver %q: want http://HOST:PORT/PATH or https://HOST/PATH", u.Redacted())
	}
	return nil
}

// Send posts a. An answer that says that the request is wrong is ErrRefused; one that says that the
// receiver is busy or broken is not.
func (h *HTTP) Send(ctx context.Context, a alert.Alert) error {
	body, err := a.JSON()
	if err != nil {
		return fmt.Errorf("encode alert %q: %w: %w", a.Rule, ErrRefused, err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, h.url, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("post alert: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "plumbline-agent")
	res, err := h.client.Do(req)
	if err != nil {
		return fmt.Errorf("post alert: %w", err)
	}
	defer res.Body.Close()
	reason, _ := io.ReadAll(io.LimitReader(res.Body, maxReason))
	switch {
	case res.StatusCode/100 == 2:
		return nil
	case res.StatusCode/100 == 5, res.StatusCode == http.StatusTooManyRequests, res.StatusCode == http.StatusRequestTimeout:
		return fmt.Errorf("post alert: %s: %.200q", res.Status, reason)
	}
	return fmt.Errorf("post alert: %w: %s: %.200q", ErrRefused, res.Status, reason)
}

// Close ends idle connections.
func (h *HTTP) Close() error {
	h.client.CloseIdleConnections()
	return nil
}

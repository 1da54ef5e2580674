package response

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

// Pod names a pod, and by its UID which one of those that have the name one after the other.
type Pod struct{ Namespace, Name, UID string }

// API is the way to a Kubernetes API server. client-go would be tens of MiB for two requests.
type API struct {
	URL       string // https://HOST:PORT
	TokenFile string // read anew for each request, because it is replaced now and then
	CAFile    string
	Again     time.Duration // between two requests where a budget refuses an eviction
	Patience  time.Duration // after which no other is made
}

// Where a pod finds what it needs to ask the API server.
const serviceAccount = "/var/run/secrets/kubernetes.io/serviceaccount/"

// InCluster is the API server of the cluster that this process is a pod of.
func InCluster(env func(string) string) (*API, error) {
	host, port := env("KUBERNETES_SERVICE_HOST"), env("KUBERNETES_SERVICE_PORT")
	if host == "" || port == "" {
		return nil, fmt.Errorf("find the Kubernetes API server: %w: the agent is not a pod of the cluster", ErrNotPossible)
	}
	return &API{
		URL: "https://" + net.JoinHostPort(host, port), TokenFile: serviceAccount + "token", CAFile: serviceAccount + "ca.crt",
		Again: 5 * time.Second, Patience: 2 * time.Minute,
	}, nil
}

// Drain evicts a pod as far as its disruption budgets allow, and asks again for a while where they do not.
func (a *API) Drain(ctx context.Context, p Pod) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, a.Patience)
	defer cancel()
	ticker := time.NewTicker(a.Again)
	defer ticker.Stop()
	var refusal error
	for {
		err := a.requestEviction(ctx, p)
		switch {
		case err == nil:
			return "pod " + p.Namespace + "/" + p.Name + " is evicted", nil
		case errors.As(err, new(tooMany)):
			refusal = err
		case refusal == nil || ctx.Err() == nil:
			return "", err
		}
		select {
		case <-ctx.Done():
			return "", fmt.Errorf("%w, for %s", refusal, a.Patience)
		case <-ticker.C:
		}
	}
}

// Evict evicts a pod, and deletes it where a budget refuses that.
func (a *API) Evict(ctx context.Context, p Pod) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, a.Patience)
	defer cancel()
	err := a.requestEviction(ctx, p)
	var refused tooMany
	switch {
	case err == nil:
		return "pod " + p.Namespace + "/" + p.Name + " is evicted", nil
	case !errors.As(err, &refused):
		return "", err
	case !refused.budget: // the server has too much to do
		return a.Drain(ctx, p)
	}
	if err := a.ask(ctx, http.MethodDelete, p.path(), deletion{Kind: "DeleteOptions", APIVersion: "v1", Preconditions: p.only()}); err != nil {
		return "", fmt.Errorf("delete pod %s/%s, whose budget refuses an eviction: %w", p.Namespace, p.Name, err)
	}
	return "pod " + p.Namespace + "/" + p.Name + " is deleted: its budget refused an eviction", nil
}

func (a *API) requestEviction(ctx context.Context, p Pod) error {
	if !isName(p.Namespace) || !isName(p.Name) {
		return fmt.Errorf("evict pod %.80q of %.80q: these are no names of Kubernetes", p.Name, p.Namespace)
	}
	var e eviction
	e.APIVersion, e.Kind, e.Metadata.Name, e.Metadata.Namespace = "policy/v1", "Eviction", p.Name, p.Namespace
	e.DeleteOptions.Preconditions = p.only()
	if err := a.ask(ctx, http.MethodPost, p.path()+"/eviction", e); err != nil {
		return fmt.Errorf("evict pod %s/%s: %w", p.Namespace, p.Name, err)
	}
	return nil
}

// isName says whether a text can be a name of Kubernetes (RFC 1123 subdomain). The runtime's state file says it, and ".."
// would be another resource.
func isName(text string) bool {
	return text != "" && strings.Trim(text, "abcdefghijklmnopqrstuvwxyz0123456789-.") == "" && strings.Trim(text, "-.") == text
}

func (p Pod) path() string {
	return "/api/v1/namespaces/" + url.PathEscape(p.Namespace) + "/pods/" + url.PathEscape(p.Name)
}

// only makes sure that it is this pod and not the next of its name.
func (p Pod) only() *preconditions {
	if p.UID == "" {
		return nil
	}
	return &preconditions{UID: p.UID}
}

type preconditions struct {
	UID string `json:"uid"`
}

type deletion struct {
	APIVersion    string         `json:"apiVersion,omitempty"`
	Kind          string         `json:"kind,omitempty"`
	Preconditions *preconditions `json:"preconditions,omitempty"`
}

type eviction struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Metadata   struct {
		Name      string `json:"name"`
		Namespace string `json:"namespace"`
	} `json:"metadata"`
	DeleteOptions deletion `json:"deleteOptions,omitzero"`
}

// status is the answer of the API server where something is wrong.
type status struct {
	Message string `json:"message"`
	Details struct {
		Causes []struct {
			Reason string `json:"reason"`
		} `json:"causes"`
	} `json:"details"`
}

// tooMany is the answer 429: a budget refuses, or the server has too much to do.
type tooMany struct {
	text   string
	budget bool
}

func (e tooMany) Error() string { return e.text }

const (
	maxCredential = 64 << 10
	maxAnswer     = 2 << 20 // the store of a cluster takes objects of 1.5 MiB
)

// ask makes one request with a body.
func (a *API) ask(ctx context.Context, method, path string, body any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	_, err = a.request(ctx, method, path, text)
	return err
}

// request makes one request, over a connection of its own, and returns the answer if it is one of success.
func (a *API) request(ctx context.Context, method, path string, body []byte) ([]byte, error) {
	transport, err := a.transport()
	if err != nil {
		return nil, err
	}
	defer transport.CloseIdleConnections()
	token, err := readFile(a.TokenFile)
	if err != nil {
		return nil, fmt.Errorf("read token of the service account: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, method, a.URL+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	req.Header.Set("Accept", "application/json")
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	// A redirect would take the token somewhere else.
	client := http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("read answer of the API server: %w", err)
	}
	return answer, judge(resp, answer)
}

// judge makes an error of an answer that is none of success.
func judge(resp *http.Response, answer []byte) error {
	if resp.StatusCode >= 200 && resp.StatusCode < 300 {
		return nil
	}
	var s status
	text := resp.Status
	if json.Unmarshal(answer, &s) == nil && s.Message != "" {
		text += ": " + s.Message
	}
	if resp.StatusCode != http.StatusTooManyRequests {
		return errors.New(text)
	}
	refused := tooMany{text: text}
	for _, c := range s.Details.Causes {
		refused.budget = refused.budget || c.Reason == "DisruptionBudget"
	}
	return refused
}

func (a *API) transport() (*http.Transport, error) {
	ca, err := readFile(a.CAFile)
	if err != nil {
		return nil, fmt.Errorf("read CA of the API server: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(ca) {
		return nil, fmt.Errorf("read CA of the API server: %s has no certificate", a.CAFile)
	}
	return &http.Transport{
		TLSClientConfig:     &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout: 10 * time.Second, ResponseHeaderTimeout: 30 * time.Second,
	}, nil
}

func readFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxCredential))
}

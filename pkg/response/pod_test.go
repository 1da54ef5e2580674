package response

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/plumbline-io/plumbline/pkg/rule"
	"github.com/plumbline-io/plumbline/pkg/workload"
)

// apiServer answers as the Kubernetes API server does, with the answers of a test one after the other.
type apiServer struct {
	*httptest.Server
	mu       sync.Mutex
	answers  []answer
	requests []string // method, path and the parts of the body that matter
	token    string
}

type answer struct {
	code int
	body string
}

// Answers as the API server writes them (k8s.io/apimachinery metav1.Status).
const (
	evicted  = `{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Success","code":201}`
	deleted  = `{"kind":"Pod","apiVersion":"v1","metadata":{"name":"shop-0","namespace":"prod","deletionTimestamp":"2026-01-01T00:00:30Z","deletionGracePeriodSeconds":30}}`
	refused  = `{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"Cannot evict pod as it would violate the pod's disruption budget.","reason":"TooManyRequests","details":{"causes":[{"reason":"DisruptionBudget","message":"The disruption budget shop needs 1 healthy pods and has 1 currently"}]},"code":429}`
	busy     = "Too many requests, please try again later.\n"
	notThere = `{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"pods \"shop-0\" not found","reason":"NotFound","details":{"name":"shop-0","kind":"pods"},"code":404}`
	denied   = `{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"pods \"shop-0\" is forbidden: User \"system:serviceaccount:plumbline:plumbline-agent\" cannot create resource \"pods/eviction\" in API group \"\" in the namespace \"prod\"","reason":"Forbidden","code":403}`
	another  = `{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"Precondition failed: UID in precondition: u-1, UID in object meta: u-2","reason":"Conflict","code":409}`
)

const (
	post   = "POST /api/v1/namespaces/prod/pods/shop-0/eviction policy/v1 Eviction prod/shop-0 uid=u-1"
	remove = "DELETE /api/v1/namespaces/prod/pods/shop-0 v1 DeleteOptions / uid=u-1"
)

func newAPIServer(t *testing.T, answers ...answer) (*apiServer, *API) {
	t.Helper()
	s := &apiServer{answers: answers}
	s.Server = httptest.NewTLSServer(http.HandlerFunc(s.serve))
	t.Cleanup(s.Close)
	dir := t.TempDir()
	token, ca := filepath.Join(dir, "token"), filepath.Join(dir, "ca.crt")
	s.token = token
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	if err := errors.Join(os.WriteFile(token, []byte("first\n"), 0o600), os.WriteFile(ca, text, 0o600)); err != nil {
		t.Fatal(err)
	}
	return s, &API{URL: s.URL, TokenFile: token, CAFile: ca, Again: time.Millisecond, Patience: 10 * time.Second}
}

func (s *apiServer) serve(w http.ResponseWriter, r *http.Request) {
	text, _ := io.ReadAll(r.Body)
	var body struct {
		APIVersion, Kind string
		Metadata         struct{ Name, Namespace string }
		DeleteOptions    struct{ Preconditions struct{ UID string } }
		Preconditions    struct{ UID string }
		GracePeriod      *int `json:"gracePeriodSeconds"`
	}
	isRead := r.Method == http.MethodGet && len(text) == 0
	if err := json.Unmarshal(text, &body); !isRead && (err != nil || body.GracePeriod != nil || r.Header.Get("Content-Type") != "application/json") {
		http.Error(w, "not as the protocol says", http.StatusBadRequest)
		return
	}
	want, _ := os.ReadFile(s.token)
	if r.Header.Get("Authorization") != "Bearer "+strings.TrimSpace(string(want)) {
		http.Error(w, "", http.StatusUnauthorized)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = os.WriteFile(s.token, []byte(strings.TrimSpace(string(want))+"x\n"), 0o600) // the next request needs the next token
	if isRead {
		s.requests = append(s.requests, r.Method+" "+r.URL.String())
	} else {
		s.requests = append(s.requests, r.Method+" "+r.URL.Path+" "+body.APIVersion+" "+body.Kind+" "+
			body.Metadata.Namespace+"/"+body.Metadata.Name+" uid="+body.DeleteOptions.Preconditions.UID+body.Preconditions.UID)
	}
	if len(s.answers) == 0 {
		http.Error(w, "unexpected", http.StatusTeapot)
		return
	}
	w.WriteHeader(s.answers[0].code)
	_, _ = io.WriteString(w, s.answers[0].body)
	s.answers = s.answers[1:]
}

func TestPods(t *testing.T) {
	pod := Pod{Namespace: "prod", Name: "shop-0", UID: "u-1"}
	for name, tc := range map[string]struct {
		evict    bool
		answers  []answer
		requests []string
		done     string
		err      string
	}{
		"drained":          {false, []answer{{201, evicted}}, []string{post}, "pod prod/shop-0 is evicted", ""},
		"evicted":          {true, []answer{{201, evicted}}, []string{post}, "pod prod/shop-0 is evicted", ""},
		"budget, then not": {false, []answer{{429, refused}, {429, refused}, {201, evicted}}, []string{post, post, post}, "pod prod/shop-0 is evicted", ""},
		"busy, then not":   {true, []answer{{429, busy}, {201, evicted}}, []string{post, post}, "pod prod/shop-0 is evicted", ""},
		"deleted":          {true, []answer{{429, refused}, {200, deleted}}, []string{post, remove}, "pod prod/shop-0 is deleted: its budget refused an eviction", ""},
		"not deleted":      {true, []answer{{429, refused}, {403, denied}}, []string{post, remove}, "", "delete pod prod/shop-0, whose budget refuses an eviction: 403 Forbidden: pods \"shop-0\" is forbidden"},
		"forbidden":        {false, []answer{{403, denied}}, []string{post}, "", `evict pod prod/shop-0: 403 Forbidden: pods "shop-0" is forbidden: User`},
		"gone":             {false, []answer{{404, notThere}}, []string{post}, "", `evict pod prod/shop-0: 404 Not Found: pods "shop-0" not found`},
		"another":          {true, []answer{{409, another}}, []string{post}, "", "409 Conflict: Precondition failed"},
		"out of order":     {false, []answer{{500, "oops"}}, []string{post}, "", "500 Internal Server Error"},
		"elsewhere":        {false, []answer{{307, ""}}, []string{post}, "", "307 Temporary Redirect"},
	} {
		t.Run(name, func(t *testing.T) {
			s, api := newAPIServer(t, tc.answers...)
			ask := api.Drain
			if tc.evict {
				ask = api.Evict
			}
			done, err := ask(context.Background(), pod)
			switch {
			case tc.err == "" && (err != nil || done != tc.done):
				t.Errorf("got %q, %v", done, err)
			case tc.err != "" && (err == nil || !strings.Contains(err.Error(), tc.err)):
				t.Errorf("got %v, want %q", err, tc.err)
			}
			if !slices.Equal(s.requests, tc.requests) {
				t.Errorf("asked for\n%s, want\n%s", strings.Join(s.requests, "\n"), strings.Join(tc.requests, "\n"))
			}
		})
	}
}

// A budget that does not give way ends the patience, and is told in the server's words.
func TestBudgetStays(t *testing.T) {
	s, api := newAPIServer(t, slices.Repeat([]answer{{429, refused}}, 10_000)...)
	api.Patience, api.Again = 200*time.Millisecond, 20*time.Millisecond
	_, err := api.Drain(context.Background(), Pod{Namespace: "prod", Name: "shop-0", UID: "u-1"})
	if err == nil || !strings.Contains(err.Error(), "Cannot evict pod as it would violate the pod's disruption budget") || !strings.Contains(err.Error(), "for 200ms") {
		t.Error(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.requests); n < 2 || n > 11 {
		t.Errorf("%d requests", n)
	}
}

func TestAPIServerIsAway(t *testing.T) {
	s, api := newAPIServer(t)
	s.Close()
	_, err := api.Evict(context.Background(), Pod{Namespace: "prod", Name: "shop-0"})
	if err == nil || !strings.Contains(err.Error(), "connection refused") {
		t.Error(err)
	}
}

// What a runtime has written down as a name may be another resource's path.
func TestNoNameOfKubernetes(t *testing.T) {
	s, api := newAPIServer(t)
	for _, p := range []Pod{{"prod", "..", ""}, {"prod", ".", ""}, {"prod", "", ""}, {"..", "shop-0", ""}, {"prod", "a/b", ""}, {"prod", "a?b", ""}} {
		if _, err := api.Evict(context.Background(), p); err == nil || !strings.Contains(err.Error(), "no names of Kubernetes") {
			t.Errorf("%+v: %v", p, err)
		}
	}
	if len(s.requests) != 0 {
		t.Errorf("it was asked %q", s.requests)
	}
}

// A server that the service account's CA does not vouch for gets no token.
func TestStrangerGetsNoToken(t *testing.T) {
	s, api := newAPIServer(t)
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, ca, ca, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(api.CAFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := api.Drain(context.Background(), Pod{Namespace: "prod", Name: "shop-0"}); err == nil || !strings.Contains(err.Error(), "certificate signed by unknown authority") {
		t.Error(err)
	}
	if len(s.requests) != 0 {
		t.Errorf("it was asked %q", s.requests)
	}
}

func TestInCluster(t *testing.T) {
	env := map[string]string{}
	get := func(name string) string { return env[name] }
	if _, err := InCluster(get); !errors.Is(err, ErrNotPossible) {
		t.Error(err)
	}
	env["KUBERNETES_SERVICE_HOST"], env["KUBERNETES_SERVICE_PORT"] = "fd00::1", "443"
	api, err := InCluster(get)
	if err != nil || api.URL != "https://"+net.JoinHostPort("fd00::1", "443") || api.TokenFile != "/var/run/secrets/kubernetes.io/serviceaccount/token" {
		t.Errorf("%+v, %v", api, err)
	}
}

// A container of a pod is drained and evicted with its pod, known by the names of the runtime and the UID of its cgroup.
func TestContainerOfPod(t *testing.T) {
	s, api := newAPIServer(t)
	dir := makeCgroup(t, version2(t), containerName)
	p, target := run(t, willing, dir), target(t, dir)
	target.PodUID = "u-1"
	e := executor()
	e.API = func() (*API, error) { return api, nil }
	e.Pod = func(w workload.Workload) (workload.Info, bool) {
		return workload.Info{Pod: "shop-0", Namespace: "prod", PodUID: "of another time"}, w.ContainerID == strings.Repeat("1", 64)
	}
	s.answers = []answer{{201, evicted}, {429, refused}, {200, deleted}}
	if done, err := e.Do(context.Background(), rule.Drain, target); err != nil || done != "pod prod/shop-0 is evicted" {
		t.Errorf("drain: %q, %v", done, err)
	}
	if done, err := e.Do(context.Background(), rule.Evict, target); err != nil || done != "pod prod/shop-0 is deleted: its budget refused an eviction" {
		t.Errorf("evict: %q, %v", done, err)
	}
	if want := []string{post, post, remove}; !slices.Equal(s.requests, want) {
		t.Errorf("asked for\n%s", strings.Join(s.requests, "\n"))
	}
	if p.hasEnded() {
		t.Error("its process was ended by us")
	}
}

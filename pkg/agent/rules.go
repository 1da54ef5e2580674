package agent

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/plumbline-io/plumbline/pkg/alert"
	"github.com/plumbline-io/plumbline/pkg/detect"
	"github.com/plumbline-io/plumbline/pkg/rule"
	"github.com/plumbline-io/plumbline/pkg/rulefile"
	"github.com/plumbline-io/plumbline/rules"
)

// RulesStatus tells which rules are in force.
type RulesStatus struct {
	Rules     int       `json:"rules"`
	Disabled  int       `json:"disabled"`
	Digest    string    `json:"digest"` // SHA-256 of the files that they come from
	Loaded    time.Time `json:"loaded"`
	Reloads   uint64    `json:"reloads"`             // times that other rules were put in force since the start
	Refused   uint64    `json:"refused"`             // times that the files were wrong, and the rules in force stayed
	Problems  []string  `json:"problems,omitempty"`  // errors of the files as they are now, each with its place
	Unwatched string    `json:"unwatched,omitempty"` // why changes of the files are not noticed

	Kernel   KernelRules    `json:"kernel"`
	Names    *NamesStatus   `json:"names,omitempty"`    // of hosts; nil: no rule has one
	Stopping []StoppingRule `json:"stopping,omitempty"` // the rules that deny or kill
	// Responding are the rules that ask for more than that of whole workloads, whether or not responses are on.
	Responding []RespondingRule `json:"responding,omitempty"`
}

// rulebook keeps the rules in force in step with their files. It is safe for concurrent use.
type rulebook struct {
	rulebookConfig

	loading sync.Mutex // one load at a time
	latest  string     // digest of the files that were read last, right or wrong

	mu    sync.Mutex  // of what follows: who asks for it does not wait for a load
	state RulesStatus // but what the kernel does
	set   *rule.Ruleset
}

type rulebookConfig struct {
	BuiltIn fs.FS
	Paths   []string       // files and directories beside the built-in rules
	Least   alert.Severity // less severe rules are not in force
	// Use puts a set in force, at once: it is the only way in which rules come into force. If it cannot, what
	// was in force stays so.
	Use func(*rule.Ruleset) error
	// Raise delivers the alert about files that were refused.
	Raise func(alert.Alert)
	Node  string
	Now   func() time.Time
	Log   *slog.Logger
}

// read reads all files, the built-in ones first.
func (b *rulebook) read() ([]rule.File, string, error) {
	var files rulefile.Files
	err := files.AddFS(b.BuiltIn, rulefile.BuiltIn)
	for _, path := range b.Paths {
		if err == nil {
			err = files.Add(path)
		}
		if errors.Is(err, rulefile.ErrNone) {
			err = nil // they may come
		}
	}
	sum := sha256.New()
	for _, f := range files.Rules {
		fmt.Fprintf(sum, "%d %s %d ", len(f.Name), f.Name, len(f.Data))
		sum.Write(f.Data)
	}
	if err != nil {
		fmt.Fprint(sum, err)
	}
	return files.Rules, hex.EncodeToString(sum.Sum(nil)), err
}

// Open loads the rules for the first time. A rule that is wrong is logged with its place and left out: there
// are no others yet that could stay.
func (b *rulebook) Open() error {
	b.loading.Lock()
	defer b.loading.Unlock()
	files, digest, err := b.read()
	if err != nil {
		return err
	}
	set, wrong := b.load(files)
	for _, text := range wrong {
		b.Log.Error("load rules; the rule is left out", "problem", text)
	}
	if err := b.Use(set); err != nil {
		return err
	}
	b.note(set, digest, func(s *RulesStatus) { s.Problems = wrong })
	return nil
}

// load compiles files; warnings go to the log, errors are told.
func (b *rulebook) load(files []rule.File) (set *rule.Ruleset, wrong []string) {
	set, problems := rule.Load(files...)
	for _, p := range problems {
		if p.Warning {
			b.Log.Warn("load rules", "problem", p.Error())
			continue
		}
		wrong = append(wrong, p.Error())
	}
	return set.AtLeast(b.Least), wrong
}

// note takes down that a set came into force, and what more there is to say of it.
func (b *rulebook) note(set *rule.Ruleset, digest string, more func(*RulesStatus)) {
	b.latest = digest
	b.mu.Lock()
	defer b.mu.Unlock()
	b.set = set
	s := &b.state
	s.Rules, s.Disabled, s.Digest, s.Loaded, s.Problems = len(set.Rules()), len(set.Disabled()), digest, b.Now().UTC(), nil
	more(s)
}

// Reload reads the files again and puts their rules in force, all of them or none. A mistake anywhere keeps
// the rules that are in force, and is told in the log, in an alert and in the status.
func (b *rulebook) Reload(why string) RulesStatus {
	b.loading.Lock()
	defer b.loading.Unlock()
	files, digest, err := b.read()
	b.apply(files, digest, err, why)
	return b.Status()
}

// Changed is Reload, unless the files are as they were read last.
func (b *rulebook) Changed() {
	b.loading.Lock()
	defer b.loading.Unlock()
	if files, digest, err := b.read(); digest != b.latest {
		b.apply(files, digest, err, "the files have changed")
	}
}

func (b *rulebook) apply(files []rule.File, digest string, err error, why string) {
	var set *rule.Ruleset
	var wrong []string
	if err == nil {
		set, wrong = b.load(files)
	}
	if err == nil && len(wrong) == 0 {
		err = b.Use(set)
	}
	if err != nil {
		wrong = []string{err.Error()}
	}
	if len(wrong) > 0 {
		b.refuse(wrong, digest, why)
		return
	}
	b.note(set, digest, func(s *RulesStatus) { s.Reloads++ })
	b.Log.Info("rules reloaded", "reason", why, "rules", len(set.Rules()), "digest", digest)
}

// RulesRefusedRule names the alert about rule files that were not put in force.
const RulesRefusedRule = "Rules refused"

func (b *rulebook) refuse(wrong []string, digest, why string) {
	b.latest = digest
	b.mu.Lock()
	b.state.Refused++
	b.state.Problems = wrong
	inForce := b.state.Digest
	b.mu.Unlock()
	for _, text := range wrong {
		b.Log.Error("reload rules; those in force stay", "reason", why, "problem", text)
	}
	const shown = 10
	text := fmt.Sprintf("Rule files are wrong, the rules in force stay (errors=%d digest=%s): %s",
		len(wrong), inForce, strings.Join(wrong[:min(len(wrong), shown)], "; "))
	now := b.Now().UTC()
	b.Raise(alert.Alert{
		Time: now, Rule: RulesRefusedRule, Severity: alert.Error, Source: detect.InternalSource, Hostname: b.Node,
		Output: alert.Text(now, alert.Error, text), Tags: []string{"rules"},
		Fields: map[string]any{"evt.time": now.UnixNano(), "plumbline.problems": len(wrong), "plumbline.digest": digest},
		Detail: alert.Detail{
			Verdict: "audit", Hook: ownHook, Key: "rule files",
			Fingerprint: alert.Fingerprint(RulesRefusedRule, b.Node, digest, ""),
		},
	})
}

// InForce is the set in force.
func (b *rulebook) InForce() *rule.Ruleset {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.set
}

// Status tells which rules are in force.
func (b *rulebook) Status() RulesStatus {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.state
	s.Problems = slices.Clone(s.Problems)
	return s
}

// settle is for how long nothing may change before changed files are read.
const settle = 250 * time.Millisecond

// Obey reloads at each signal, until ctx ends.
func (b *rulebook) Obey(ctx context.Context, signals <-chan os.Signal) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-signals:
			b.Reload("signal")
		}
	}
}

// Watch reloads when the files change, until ctx ends. Where they cannot be watched, the status says so; that
// must not end the agent.
func (b *rulebook) Watch(ctx context.Context) error {
	if len(b.Paths) == 0 {
		return nil
	}
	w, err := rulefile.NewWatcher(b.Paths, settle)
	if err == nil {
		b.Changed() // what was written since they were read
		err = errors.Join(w.Run(ctx, b.Changed), w.Close())
	}
	if err != nil {
		b.Log.Error("watch rule files; SIGHUP and 'rules reload' work", "error", err)
		b.mu.Lock()
		b.state.Unwatched = err.Error()
		b.mu.Unlock()
	}
	return nil
}

// openRules makes the detector, and puts the rules in force.
func (a *Agent) openRules() error {
	matching, err := rule.ParseMatching(a.cfg.RuleMatching)
	if err != nil {
		return err
	}
	least, err := alert.ParseSeverity(a.cfg.Priority)
	if err != nil {
		return err
	}
	a.facts = newFacts(a.host, &a.subject)
	a.environs = newEnvirons(a.host.proc)
	cfg := detect.Config{
		Hostname: a.cfg.Node, Wall: a.host.Wall, Window: time.Minute, DenyWindow: time.Second, Matching: matching, Facts: a.facts,
		Variables: a.environs,
	}
	if a.names = openNames(&a.cfg); a.names != nil {
		cfg.Names = a.names
	}
	a.detector = detect.New(cfg)
	a.rules = &rulebook{rulebookConfig: rulebookConfig{
		BuiltIn: rules.Files, Paths: a.cfg.Rules, Least: least, Use: a.useRules, Raise: func(told alert.Alert) { a.sink.Raise(told) },
		Node: a.cfg.Node, Now: time.Now, Log: a.cfg.Log,
	}}
	return a.rules.Open()
}

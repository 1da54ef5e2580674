// Package bus carries alerts and heartbeats from agents to the control plane, and an operator's
// requests to it, over NATS with JetStream. It is the only importer of nats.go; the server itself is
// natsserver's, which agents do not carry. It must never be the only place where an alert is: the agent's spool keeps each alert until the
// control plane has stored it, whatever JetStream acknowledged meanwhile.
//
// The way of an alert: Publisher sends it with its ID as Nats-Msg-Id; JetStream keeps it once; Hub
// hands it to the control plane in batches; when a batch is stored, Hub confirms it to the node; the
// Publisher acks it in the spool.
//
//	p, err := bus.NewPublisher(bus.PublisherConfig{URL: url, PasswordFile: file, Node: "n1", Source: spool})
//	err = p.Run(ctx)
package bus

import (
	"errors"
	"time"
)

// ErrUnreachable means that nobody answers where the control plane should be.
var ErrUnreachable = errors.New("control plane unreachable")

// ErrRefused means that the control plane's server refused the user or the password.
var ErrRefused = errors.New("refused by the control plane")

// ErrNoPassword means that the file with the password cannot be read, or is empty.
var ErrNoPassword = errors.New("no password for the control plane")

// Heartbeat is what an agent says of itself. The Publisher sets Node, Tenant, Cluster, Time,
// Sequence and Every.
type Heartbeat struct {
	Node     string            `json:"node"`
	Tenant   string            `json:"tenant"`
	Cluster  string            `json:"cluster"`
	Time     time.Time         `json:"time"`
	Sequence uint64            `json:"sequence"` // from 1 with each start of the agent
	Every    float64           `json:"every_s"`  // seconds until the next
	Version  string            `json:"version"`
	Kernel   string            `json:"kernel"`
	Arch     string            `json:"arch"`
	Started  time.Time         `json:"started"`
	RSS      uint64            `json:"rss_bytes"`
	Modes    map[string]int    `json:"modes"`              // mode -> number of workloads
	Weakened map[string]int    `json:"weakened,omitempty"` // paused, stepped_down, blind or unpinned -> number of enforced workloads
	Support  []Support         `json:"support"`
	Lost     map[string]uint64 `json:"lost"` // reason -> count since Started
	Inputs   []Input           `json:"inputs,omitempty"`
}

// Support says whether one hook works on this node.
type Support struct {
	Sensor    string `json:"sensor"`
	Hook      string `json:"hook"`
	Supported bool   `json:"supported"`
	Reason    string `json:"reason,omitempty"`
}

// Input is one way in which a node takes the alerts of a Falco.
type Input struct {
	Name      string `json:"name"` // as in the agent's configuration
	Address   string `json:"address"`
	Alerts    uint64 `json:"alerts"`               // since Started
	Refused   uint64 `json:"refused"`              // what came was no complete alert
	LastError string `json:"last_error,omitempty"` // why nothing comes, or why the last was refused
}

// stored is the confirmation to a node, and its question what is stored.
type stored struct {
	Epoch string      `json:"epoch"`
	Seqs  [][2]uint64 `json:"seqs"` // ranges, both ends included
}

// addSeq appends seq to ranges; sorted input gives the fewest ranges.
func addSeq(ranges [][2]uint64, seq uint64) [][2]uint64 {
	if n := len(ranges); n > 0 && ranges[n-1][1]+1 == seq {
		ranges[n-1][1] = seq
		return ranges
	}
	return append(ranges, [2]uint64{seq, seq})
}

package agent

import (
	"path/filepath"
	"sync"

	"github.com/plumbline-io/plumbline/pkg/detect"
	"github.com/plumbline-io/plumbline/pkg/event"
)

// workloadNames says whom an agent called what in the kernel.
type workloadNames map[uint32]detect.Subject

// successor keeps the names of this agent's workloads for the next one, which counts them anew, and has those of
// the earlier ones: in what these left to be read there are workloads that have ended meanwhile. It is safe for
// concurrent use.
type successor struct {
	file stateFile[map[string]workloadNames] // by the name of the directory of pins

	mu    sync.Mutex
	own   string                   // directory; "": nothing outlives this agent
	all   map[string]workloadNames // of earlier agents
	saved int                      // how often the names had changed that are in the file
}

// openSuccessor reads what earlier agents have kept. If that cannot be read, it is as if there were none.
func openSuccessor(stateDir string) (*successor, error) {
	s := &successor{file: stateFile[map[string]workloadNames]{filepath.Join(stateDir, "workloads.json")}}
	var err error
	if s.all, err = s.file.Load(); s.all == nil {
		s.all = map[string]workloadNames{}
	}
	return s, err
}

func (a *Agent) openSuccessor() (err error) {
	if a.successor, err = openSuccessor(a.cfg.StateDir); err != nil {
		a.cfg.Log.Error("read the names of an earlier agent's workloads: those that have ended are told as the node", "error", err)
	}
	return nil
}

// Begin says where this agent pins.
func (s *successor) Begin(own string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.own = own
}

// Name of a workload of an earlier agent.
func (s *successor) Name(left string, id uint32) (detect.Subject, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w, known := s.all[left][id]
	return w, known
}

// Read says that what earlier agents have left is read. Save removes their names.
func (s *successor) Read() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.all)
	s.saved = 0
}

// Save writes the names if there are new ones.
func (s *successor) Save(r *registry) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.own == "" {
		return nil
	}
	names, changes := r.namesSince(s.saved)
	if names == nil {
		return nil
	}
	all := map[string]workloadNames{s.own: names}
	for left, theirs := range s.all {
		all[left] = theirs
	}
	if err := s.file.Save(all); err != nil {
		return err
	}
	s.saved = changes
	return nil
}

// namesSince are those of all workloads, and how often they have changed; nil if they have not since.
func (r *registry) namesSince(changes int) (workloadNames, int) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.named == changes {
		return nil, changes
	}
	names := make(workloadNames, len(r.byID))
	for id, m := range r.byID {
		names[id] = m.subject
	}
	return names, r.named
}

// Recall is the id of a workload of an earlier agent, of which there is no cgroup any more. If it is not known
// here, it becomes so, as one that has just ended.
func (r *registry) Recall(w detect.Subject) (uint32, error) {
	w.Baseline = r.look(w)
	r.mu.Lock()
	defer r.mu.Unlock()
	if m := r.byName[w.Name]; m != nil {
		return m.id, nil
	}
	m, err := r.admit(w)
	if err != nil {
		return 0, err
	}
	m.ended = r.Now()
	return m.id, nil
}

// whose finds the workload of an event that an earlier agent has left: by its cgroup, and if that is gone by the
// id that the earlier agent gave it. Of whom neither is known the event is the node's, as 0 says.
func (a *Agent) whose(left string, ev *event.Event) uint32 {
	if id := a.registry.IDOf(ev.CgroupID); id != 0 {
		return id
	}
	w, known := a.successor.Name(left, ev.Workload)
	if !known {
		return 0
	}
	id, err := a.registry.Recall(w)
	if err != nil {
		a.cfg.Log.Error("recall a workload of an earlier agent", "workload", w.Name, "error", err)
	}
	return id
}

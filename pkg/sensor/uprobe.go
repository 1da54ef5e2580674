package sensor

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
)

// Uprobe is one program and the places in one file where it is to run.
type Uprobe struct {
	Program *ebpf.Program
	Offsets []uint64 // file offsets, not virtual addresses; never 0
	Cookies []uint64 // one for each offset, or none; readable in the program from Linux 5.15
	Return  bool     // uretprobe; never use it on Go code, whose stacks move
}

// AttachUprobes attaches all probes to the file, or none. pid 0 means every process that maps the
// file; another pid confines the probes to that process, all its threads included. It uses one multi
// link for each program where the kernel has them, else one perf event for each offset, whose
// detachment takes 0.1 s.
func (s *Shared) AttachUprobes(file string, pid uint32, probes []Uprobe) (io.Closer, error) {
	ex, err := link.OpenExecutable(file)
	if err != nil {
		return nil, fmt.Errorf("open %s for uprobes: %w", file, err)
	}
	var links closers
	attach := attachEach
	if s.uprobeMulti {
		attach = attachMulti
	}
	for _, p := range probes {
		l, err := attach(ex, pid, p)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("attach uprobe to %s: %w", file, err), links.Close())
		}
		links = append(links, l)
	}
	return links, nil
}

func attachMulti(ex *link.Executable, pid uint32, p Uprobe) (io.Closer, error) {
	opts := &link.UprobeMultiOptions{Addresses: p.Offsets, Cookies: p.Cookies, PID: pid}
	attach := ex.UprobeMulti
	if p.Return {
		attach = ex.UretprobeMulti
	}
	return attach(nil, p.Program, opts)
}

func attachEach(ex *link.Executable, pid uint32, p Uprobe) (io.Closer, error) {
	var links closers
	for i, off := range p.Offsets {
		opts := &link.UprobeOptions{Address: off, PID: int(pid)}
		if len(p.Cookies) > 0 {
			opts.Cookie = p.Cookies[i]
		}
		attach := ex.Uprobe
		if p.Return {
			attach = ex.Uretprobe
		}
		l, err := attach("", p.Program, opts)
		if err != nil {
			return nil, errors.Join(err, links.Close())
		}
		links = append(links, l)
	}
	return links, nil
}

// haveUprobeMulti says whether multi links can be used for one process too. They came with Linux
// 6.6, but matched threads instead of processes until commit 46ba0e49b642 ("bpf: fix multi-uprobe PID
// filtering logic", 6.10); the session attach type (6.13) is the first mark of a fixed kernel in BTF.
func haveUprobeMulti(kernel *btf.Spec) bool {
	var types *btf.Enum
	if kernel.TypeByName("bpf_attach_type", &types) != nil {
		return false
	}
	for _, v := range types.Values {
		if v.Name == "BPF_TRACE_UPROBE_SESSION" {
			return true
		}
	}
	return false
}

// useUprobeMulti retypes a collection's uprobe programs for multi links; the kernel wants to know at
// load time.
func useUprobeMulti(spec *ebpf.CollectionSpec) {
	for _, p := range spec.Programs {
		if strings.HasPrefix(p.SectionName, "uprobe") || strings.HasPrefix(p.SectionName, "uretprobe") {
			p.AttachType = ebpf.AttachTraceUprobeMulti
		}
	}
}

// closers closes its members at the same time: detaching a perf uprobe waits for a grace period.
type closers []io.Closer

func (c closers) Close() error {
	errs := make(chan error, len(c))
	for _, one := range c {
		go func() { errs <- one.Close() }()
	}
	var all error
	for range c {
		all = errors.Join(all, <-errs)
	}
	return all
}

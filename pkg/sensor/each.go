package sensor

import (
	"fmt"
	"runtime"
	"sync"

	"github.com/cilium/ebpf"
)

// LoadEach is Load for an object of which not every program has to be: those that the kernel refuses are
// missing in the collection, and refused says why, by name. The first is the one without which the others are of no use:
// where it is refused they are not tried, and it is the error. Verifying is most of the work and is done on all processors.
func (s *Shared) LoadEach(spec *ebpf.CollectionSpec, first string) (c *ebpf.Collection, refused map[string]error, err error) {
	opts, err := s.prepare(spec)
	if err != nil {
		return nil, nil, err
	}
	programs := spec.Programs
	spec.Programs = nil
	if c, err = ebpf.NewCollectionWithOptions(spec, *opts); err != nil {
		return nil, nil, fmt.Errorf("load maps of object: %w", err)
	}
	refused = map[string]error{}
	loaded, err := loadOne(programs[first], c.Maps, *opts)
	if err != nil {
		c.Close()
		return nil, nil, err
	}
	c.Programs[first] = loaded
	delete(programs, first)
	var (
		mu      sync.Mutex // of c.Programs and refused
		loading sync.WaitGroup
		turns   = make(chan struct{}, runtime.GOMAXPROCS(0))
	)
	for name, program := range programs {
		loading.Go(func() {
			turns <- struct{}{}
			defer func() { <-turns }()
			loaded, err := loadOne(program, c.Maps, *opts)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				refused[name] = err
				return
			}
			c.Programs[name] = loaded
		})
	}
	loading.Wait()
	return c, refused, nil
}

// LoadLate loads one more program of an object whose other programs and maps are there: it is given the maps that it
// names. After ForgetTypes it reads the running kernel's types anew, whatever Config.BTF says.
func (s *Shared) LoadLate(program *ebpf.ProgramSpec, maps map[string]*ebpf.Map) (*ebpf.Program, error) {
	return loadOne(program, maps, ebpf.CollectionOptions{
		Cache: s.Types.cache, Programs: ebpf.ProgramOptions{KernelTypes: s.Types.kernel},
	})
}

// MapsOf names the maps that a program uses.
func MapsOf(program *ebpf.ProgramSpec) map[string]bool {
	names := map[string]bool{}
	for _, ins := range program.Instructions {
		if ins.IsLoadFromMap() {
			names[ins.Reference()] = true
		}
	}
	return names
}

// loadOne loads a program of an object whose maps are there. The library lets programs share what it knows
// of the kernel's types as members of a collection only.
func loadOne(program *ebpf.ProgramSpec, maps map[string]*ebpf.Map, opts ebpf.CollectionOptions) (*ebpf.Program, error) {
	for i := range program.Instructions {
		ins := &program.Instructions[i]
		if !ins.IsLoadFromMap() {
			continue
		}
		m := maps[ins.Reference()]
		if m == nil {
			return nil, fmt.Errorf("load program %s: there is no map %s", program.Name, ins.Reference())
		}
		if err := ins.AssociateMap(m); err != nil {
			return nil, fmt.Errorf("load program %s: map %s: %w", program.Name, ins.Reference(), err)
		}
	}
	opts.MapReplacements = nil
	alone := &ebpf.CollectionSpec{Programs: map[string]*ebpf.ProgramSpec{program.Name: program}, ByteOrder: program.ByteOrder}
	c, err := ebpf.NewCollectionWithOptions(alone, opts)
	if err != nil {
		return nil, fmt.Errorf("load object: %w", err)
	}
	defer c.Close()
	return c.DetachProgram(program.Name), nil
}

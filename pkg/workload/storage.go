package workload

import (
	"encoding/json"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// storage is the list of containers that Podman keeps with its storage. All of them stand in one file, which is read once for each
// change of it: a hundred containers that begin must not have it read a hundred times. What is kept is less than twice
// the file, of which maxStateBytes are read. It is safe for concurrent use.
type storage struct {
	file string

	mu   sync.Mutex
	of   fileVersion
	list map[string]Info
}

// Find tells what the file says of a container.
func (s *storage) Find(id string) (Info, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var st unix.Stat_t
	if unix.Stat(s.file, &st) != nil {
		s.of, s.list = fileVersion{}, nil
		return Info{}, false
	}
	// It is looked at before it is read: one that changes meanwhile is read again.
	if now := (fileVersion{st.Dev, st.Ino, st.Size, st.Mtim, st.Ctim}); now != s.of {
		data, err := readBounded(s.file, maxStateBytes)
		if err != nil {
			return Info{}, false
		}
		s.of, s.list = now, readStorage(data)
	}
	info, ok := s.list[id]
	return info, ok
}

// readStorage lists Podman's containers by their ids. CRI-O keeps its own there too, and its bundles know more of them.
func readStorage(data []byte) map[string]Info {
	var list []struct {
		ID       string
		Names    []string
		Image    string
		Metadata string
	}
	if json.Unmarshal(data, &list) != nil {
		return nil
	}
	known := map[string]Info{}
	for _, c := range list {
		var meta struct {
			Image string `json:"image-name"`
		}
		if !isContainerID(c.ID) || strings.Contains(c.Metadata, `"pod-id"`) || json.Unmarshal([]byte(c.Metadata), &meta) != nil || len(c.Names) == 0 {
			continue
		}
		info := Info{Runtime: "podman", Name: c.Names[0], Image: meta.Image, ImageID: c.Image}
		info.bound()
		known[strings.Clone(c.ID)] = info
	}
	return known
}

package workload

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Actor is a process, and whose files name its user.
type Actor struct {
	PID   uint32
	Start uint64 // clock ticks since boot; 0: not known
	// ContainerID is "" for the host. Cgroup is the container's, as a path below the hierarchy's mount.
	ContainerID, Cgroup string
	Now                 uint64 // nanoseconds of any clock that goes forward
}

// Account is a line of /etc/passwd.
type Account struct{ Name, Home, Shell string }

// Bounds of what is read and kept of the files of containers, whoever wrote them.
const (
	maxAccountBytes = 64 << 10
	maxAccounts     = 1000 // of a file; the first ones
	maxAccountName  = 256
	maxTables       = 128 // of containers; the one that was read first is forgotten first
	maxMountInfo    = 256 << 10
	maxIDMap        = 16 << 10
)

// accountAge is how old a table may be before its files are looked at again.
const accountAge = 5 * time.Second

// Accounts resolves user and group ids in the files of the host, or of a container as its first process sees
// them: in its root, by its user namespace. It is for one goroutine; Unread is for any.
type Accounts struct {
	proc   Proc
	first  func(cgroup string) (uint32, bool)
	tables map[string]*accountTable
	order  []string
	unread atomic.Uint64
}

// accountTable is what is known of one container.
type accountTable struct {
	checked      uint64
	asked        bool
	users        map[uint32]Account
	groups       map[uint32]string
	passwd, grps fileVersion
	uids, gids   []idRange
}

// NewAccounts makes Accounts. first finds the oldest process of a container's cgroup, false if it has none:
// a younger one may have made a root and a user namespace of its own.
func NewAccounts(proc Proc, first func(cgroup string) (uint32, bool)) *Accounts {
	return &Accounts{proc: proc, first: first, tables: map[string]*accountTable{}}
}

// Unread counts how often files could not be read although somebody asked: too large, no regular file, on a
// file system that others answer for (FUSE, NFS), or below a mount of its own.
func (a *Accounts) Unread() uint64 { return a.unread.Load() }

// User is the account of a user id as the host counts it. False: there is none, or it is not known.
func (a *Accounts) User(p Actor, uid uint32) (Account, bool) {
	t := a.table(p)
	id, ok := mapID(t.uids, uid)
	if !ok {
		return Account{}, false
	}
	account, ok := t.users[id]
	return account, ok
}

// Group is the name of a group id as the host counts it.
func (a *Accounts) Group(p Actor, gid uint32) (string, bool) {
	t := a.table(p)
	id, ok := mapID(t.gids, gid)
	if !ok {
		return "", false
	}
	name, ok := t.groups[id]
	return name, ok
}

func (a *Accounts) table(p Actor) *accountTable {
	t := a.tables[p.ContainerID]
	if t == nil {
		t = &accountTable{}
		if len(a.order) == maxTables {
			delete(a.tables, a.order[0])
			a.order = append(a.order[:0], a.order[1:]...)
		}
		a.tables[p.ContainerID] = t
		a.order = append(a.order, p.ContainerID)
	}
	if t.asked && p.Now-t.checked < uint64(accountAge) {
		return t
	}
	t.asked, t.checked = true, p.Now
	if err := a.read(t, p); err != nil && !errors.Is(err, ErrGone) {
		a.unread.Add(1)
	}
	return t
}

// read looks at the files again. What cannot be read stays as it was.
func (a *Accounts) read(t *accountTable, p Actor) error {
	pid, start := uint32(1), uint64(0)
	if p.ContainerID != "" {
		pid, start = p.PID, p.Start
		if oldest, ok := a.first(p.Cgroup); ok {
			pid, start = oldest, 0
		}
	}
	dir, err := a.proc.open(pid, start)
	if err != nil {
		return err
	}
	defer dir.Close()
	root, err := dir.root()
	if err != nil {
		return err
	}
	defer unix.Close(root)
	if t.uids, err = dir.idMap("uid_map"); err == nil {
		t.gids, err = dir.idMap("gid_map")
	}
	if err != nil {
		return err
	}
	err = t.passwd.read(root, "etc/passwd", func(data []byte) { t.users = parsePasswd(data) })
	return errors.Join(err, t.grps.read(root, "etc/group", func(data []byte) { t.groups = parseGroup(data) }))
}

// parsePasswd reads passwd(5). Of several lines for one id the first counts, as in getpwuid(3).
func parsePasswd(data []byte) map[uint32]Account {
	users := map[uint32]Account{}
	eachAccount(data, 7, func(id uint32, f []string) bool {
		if _, twice := users[id]; !twice {
			users[id] = Account{Name: f[0], Home: f[5], Shell: f[6]}
		}
		return len(users) < maxAccounts
	})
	return users
}

// parseGroup reads group(5).
func parseGroup(data []byte) map[uint32]string {
	groups := map[uint32]string{}
	eachAccount(data, 4, func(id uint32, f []string) bool {
		if _, twice := groups[id]; !twice {
			groups[id] = f[0]
		}
		return len(groups) < maxAccounts
	})
	return groups
}

// eachAccount calls take with the fields of each line that has enough of them, a name and an id, until it
// returns false. The id is the third field in both files.
func eachAccount(data []byte, fields int, take func(id uint32, fields []string) bool) {
	for line := range bytes.Lines(data) {
		f := strings.Split(string(bytes.TrimRight(line, "\r\n")), ":")
		if len(f) != fields || f[0] == "" || len(f[0]) > maxAccountName || f[0][0] == '#' {
			continue
		}
		id, err := strconv.ParseUint(f[2], 10, 32)
		if err == nil && !take(uint32(id), f) {
			return
		}
	}
}

// idRange is a line of /proc/PID/uid_map: user_namespaces(7).
type idRange struct{ inside, outside, count uint64 }

// mapID is what a namespace calls an id of ours.
func mapID(ranges []idRange, id uint32) (uint32, bool) {
	for _, r := range ranges {
		if n := uint64(id) - r.outside; uint64(id) >= r.outside && n < r.count {
			return uint32(r.inside + n), true
		}
	}
	return 0, false
}

func parseIDMap(data []byte) ([]idRange, error) {
	var ranges []idRange
	for line := range bytes.Lines(data) {
		var r idRange
		if _, err := fmt.Sscan(string(line), &r.inside, &r.outside, &r.count); err != nil {
			return nil, fmt.Errorf("parse id map: %w", err)
		}
		ranges = append(ranges, r)
	}
	return ranges, nil
}

package rule

import (
	"strings"

	"github.com/plumbline-io/plumbline/pkg/syscalls"
)

// siblings are the other system calls that do what one does. A hook asks about what is done, so an event has the
// name of one of them and answers to all.
func siblings(call string) []string {
	switch call {
	case "execve":
		return []string{"execveat"}
	case "clone":
		return []string{"clone3", "fork", "vfork"}
	case "openat":
		return []string{"open", "openat2", "creat"}
	case "mkdirat":
		return []string{"mkdir"}
	case "symlinkat":
		return []string{"symlink"}
	case "unlinkat":
		return []string{"unlink"}
	case "renameat":
		return []string{"rename", "renameat2"}
	case "linkat":
		return []string{"link"}
	case "fchmodat":
		return []string{"chmod", "fchmod", "fchmodat2"}
	case "mount":
		return []string{"move_mount"}
	case "mmap":
		return []string{"mmap2"}
	case "accept4":
		return []string{"accept"}
	case "sendto":
		return []string{"sendmsg", "sendmmsg"}
	case "finit_module":
		return []string{"init_module"}
	case "setuid":
		return []string{"setreuid", "setresuid"}
	case "setgid":
		return []string{"setregid", "setresgid"}
	case "kill":
		return []string{"tkill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo", "pidfd_send_signal"}
	case "keyctl":
		return []string{"add_key", "request_key"}
	}
	return nil
}

// toldAs are calls that do another thing than one with which they share the event: it has the name of that one. Who
// asks for the rarer one must not be told of all the others.
func toldAs(call string) string {
	switch call {
	case "rmdir":
		return "unlinkat"
	case "truncate", "ftruncate", "open_by_handle_at", "mknod", "mknodat":
		return "openat"
	case "chown", "fchown", "lchown", "fchownat":
		return "fchmodat"
	case "umount", "umount2", "pivot_root", "chroot":
		return "mount"
	case "mprotect", "pkey_mprotect":
		return "mmap"
	case "socketpair":
		return "socket"
	case "process_vm_readv", "process_vm_writev":
		return "ptrace"
	case "exit", "exit_group":
		return "procexit"
	}
	return ""
}

// unobserved says why there is no event of a call that Falco knows, "" if there is no such call.
func unobserved(call string) string {
	switch call {
	case "recvfrom", "recvmsg", "recvmmsg":
		return "what arrives is not observed"
	case "read", "readv", "pread", "preadv", "pread64", "write", "writev", "pwrite", "pwritev", "pwrite64", "sendfile", "lseek", "close", "splice", "fcntl", "ioctl":
		return "what is done with a file that is open is not observed"
	case "pipe", "pipe2", "eventfd", "eventfd2", "signalfd", "signalfd4", "timerfd_create", "inotify_init", "inotify_init1", "memfd_create":
		return "how a process makes and passes on descriptors is not observed"
	case "stat", "lstat", "fstat", "stat64", "newfstatat", "statx", "access", "faccessat", "faccessat2", "getdents", "getdents64", "readlink", "readlinkat":
		return "attributes and directories can be read by all, and no hook asks"
	case "container", "switch", "drop", "signaldeliver", "page_fault", "userevent", "asyncevent", "pluginevent", "notification", "infra", "cpu_hotplug", "k8s", "mesos":
		return "Falco alone has such an event"
	}
	if c, err := syscalls.Parse(call); err == nil && !isDigits(call) {
		if name, known := c.Name(); known && name == call {
			return "no hook asks about it"
		}
	}
	return ""
}

// typesByName are the classes of events that answer to each name of evt.type.
func typesByName() map[string]classes {
	types := map[string]classes{}
	(allClasses &^ 1).each(func(class int) {
		told := classType(class)
		for _, name := range append(siblings(told), told) {
			types[name] |= 1 << class
		}
	})
	return types
}

func (s *scope) typesNamed(names []string) classes {
	var set classes
	for _, name := range names {
		set |= s.types[name]
	}
	return set
}

// strangers tells of names of evt.type that no event has, those with one reason together.
func (s *scope) strangers(names []string) (messages []string) {
	const most = 20
	var reasons []string
	with := map[string][]string{}
	named, looked := s.typesNamed(names), map[string]bool{}
	for found, i := 0, 0; i < len(names) && found < most; i++ {
		name := names[i]
		if looked[name] {
			continue
		}
		looked[name] = true
		if why := s.stranger(name, named); why != "" {
			if with[why] == nil {
				reasons = append(reasons, why)
			}
			with[why] = append(with[why], name)
			found++
		}
	}
	for _, why := range reasons {
		for i, name := range with[why] {
			if strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789_") != "" {
				with[why][i] = shorten(name)
			}
		}
		messages = append(messages, "evt.type is never "+joined(with[why])+": "+why)
	}
	return messages
}

// stranger says why a name matches nothing, "" if it does, or if others that are named stand for its events.
func (s *scope) stranger(name string, named classes) string {
	told := toldAs(name)
	switch {
	case s.types[name] != 0 || told != "" && named&s.types[told] != 0:
		return ""
	case told != "":
		return "it is not told apart from " + told + ", which stands for it too"
	}
	if why := unobserved(name); why != "" {
		return why
	}
	return "there is no such call" + s.likeType(name)
}

// likeType offers the name of evt.type that is most like a wrong one.
func (s *scope) likeType(name string) string {
	const mistyped, longest = 2, 32
	best, distance := "", mistyped+1
	for call := range s.types {
		if len(name) > longest {
			break
		}
		if d := Distance(name, call); d < distance || d == distance && call < best {
			best, distance = call, d
		}
	}
	if distance > mistyped {
		return ""
	}
	return " (did you mean " + best + "?)"
}

// Distance counts the bytes to insert, delete or replace between two texts (Levenshtein).
func Distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}

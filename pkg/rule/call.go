package rule

import (
	"slices"
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
	case "accept", "accept4", "recvfrom", "recvmsg", "recvmmsg":
		return "what arrives is not observed"
	case "read", "readv", "pread", "preadv", "pread64", "write", "writev", "pwrite", "pwritev", "pwrite64", "sendfile", "lseek", "close", "splice", "fcntl", "ioctl":
		return "what is done with a file that is open is not observed"
	case "dup", "dup2", "dup3", "pipe", "pipe2", "eventfd", "eventfd2", "signalfd", "signalfd4", "timerfd_create", "inotify_init", "inotify_init1", "memfd_create":
		return "how a process makes and passes on descriptors is not observed"
	case "setns":
		return "entering a namespace shows as the capability that it uses: evt.operation = capability"
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

// classesOfType are the classes of events that answer to a name of evt.type.
func classesOfType(name string) classes {
	var set classes
	(allClasses &^ 1).each(func(class int) {
		if told := classType(class); told == name || slices.Contains(siblings(told), name) {
			set |= 1 << class
		}
	})
	return set
}

func typesNamed(values []string) classes {
	var set classes
	for _, v := range values {
		set |= classesOfType(v)
	}
	return set
}

// strangers tells of names of evt.type that no event has, those with one reason together.
func strangers(values []string) (messages []string) {
	var reasons []string
	names := map[string][]string{}
	const most = 100
	for _, v := range values[:min(len(values), most)] {
		why := stranger(v, values)
		if why == "" || slices.Contains(names[why], v) {
			continue
		}
		if names[why] == nil {
			reasons = append(reasons, why)
		}
		names[why] = append(names[why], v)
	}
	for _, why := range reasons {
		for i, name := range names[why] {
			if strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789_") != "" {
				names[why][i] = shorten(name)
			}
		}
		messages = append(messages, "evt.type is never "+joined(names[why])+": "+why)
	}
	return messages
}

// stranger says why a name matches nothing, "" if it does, or if another of the names stands for its events.
func stranger(name string, among []string) string {
	told := toldAs(name)
	switch {
	case classesOfType(name) != 0 || told != "" && typesNamed(among)&classesOfType(told) != 0:
		return ""
	case told != "":
		return "it is not told apart from " + told + ", which stands for it too"
	}
	if why := unobserved(name); why != "" {
		return why
	}
	return "there is no such call" + likeType(name)
}

// likeType offers the name of evt.type that is most like a wrong one.
func likeType(name string) string {
	const mistyped = 2 // letters
	best, distance := "", mistyped+1
	(allClasses &^ 1).each(func(class int) {
		told := classType(class)
		for _, call := range append([]string{told}, siblings(told)...) {
			if d := Distance(name, call); d < distance {
				best, distance = call, d
			}
		}
	})
	if best == "" {
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

package enforce_test

import (
	"os"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/plumbline-io/plumbline/pkg/event"
)

// moves are what gives a file another name; from and to are below dir.
func link(dir, from, to string) func() error {
	return func() error { return unix.Link(dir+"/"+from, dir+"/"+to) }
}

func rename(dir, from, to string) func() error {
	return func() error { return unix.Rename(dir+"/"+from, dir+"/"+to) }
}

func bind(dir, from, to string) func() error {
	return func() error { return unix.Mount(dir+"/"+from, dir+"/"+to, "", unix.MS_BIND, "") }
}

func reading(dir, name string) func() error {
	return func() error { return open(dir + "/" + name) }
}

func peeking(dir, name string) func() error {
	return func() error { return peek(dir + "/" + name) }
}

// nameEvasions give the secret another name.
func nameEvasions() map[string]evasion {
	return filed(map[string]evasion{
		"symbolic link": {do: func(dir string) error {
			return inOrder(func() error { return unix.Symlink(dir+"/"+vaultFile, dir+"/"+aliasFile) }, reading(dir, aliasFile))
		}, steps: []event.Operation{event.OpCreate}},
		"symbolic link and ..": {do: func(dir string) error {
			return inOrder(func() error { return unix.Symlink(dir+"/vault", dir+"/"+aliasFile) }, reading(dir, aliasFile+"/../"+vaultFile))
		}, steps: []event.Operation{event.OpCreate}},
		"hard link": {
			do:    func(dir string) error { return inOrder(link(dir, vaultFile, aliasFile), reading(dir, aliasFile)) },
			about: about(onPath(event.OpRead, aliasFile)), steps: []event.Operation{event.OpLink},
		},
		"hard link in the place of a known file": {
			do: func(dir string) error {
				return inOrder(func() error { return unix.Unlink(dir + "/" + knownFile) }, link(dir, vaultFile, knownFile), reading(dir, knownFile))
			},
			about: about(onPath(event.OpLink, vaultFile), onPath(event.OpLink, knownFile)), steps: []event.Operation{event.OpDelete},
		},
		"rename the file": {
			do:    func(dir string) error { return inOrder(rename(dir, vaultFile, aliasFile), reading(dir, aliasFile)) },
			about: about(onPath(event.OpRead, aliasFile)), steps: []event.Operation{event.OpRename},
		},
		"rename its directory": {
			do:    func(dir string) error { return inOrder(rename(dir, "vault", "moved"), reading(dir, "moved/secret")) },
			about: about(onPath(event.OpRead, "moved/secret")), steps: []event.Operation{event.OpRename},
		},
		"rename over a known file": {
			do:    func(dir string) error { return inOrder(rename(dir, vaultFile, knownFile), reading(dir, knownFile)) },
			about: about(onPath(event.OpRename, vaultFile), onPath(event.OpRename, knownFile)),
		},
		"exchange with a known file": {
			do: func(dir string) error {
				return inOrder(func() error {
					return unix.Renameat2(unix.AT_FDCWD, dir+"/"+vaultFile, unix.AT_FDCWD, dir+"/"+knownFile, unix.RENAME_EXCHANGE)
				}, reading(dir, knownFile))
			},
			about: about(onPath(event.OpRename, vaultFile), onPath(event.OpRename, knownFile)),
		},
	})
}

// changeEvasions destroy the secret, or put something in its place.
func changeEvasions() map[string]evasion {
	return filed(map[string]evasion{
		"change: rename away": {
			do: func(dir string) error { return rename(dir, vaultFile, aliasFile)() }, about: about(onPath(event.OpRename, vaultFile)),
		},
		"change: truncate": {
			do: func(dir string) error { return unix.Truncate(dir+"/"+vaultFile, 0) }, about: about(onPath(event.OpWrite, vaultFile)),
		},
		"change: replace by rename": {
			do: func(dir string) error {
				return inOrder(func() error { return os.WriteFile(dir+"/"+aliasFile, nil, 0o600) }, rename(dir, aliasFile, vaultFile))
			},
			about: about(onPath(event.OpRename, vaultFile)),
		},
		"change: replace a known file": {
			do: func(dir string) error {
				return inOrder(peeking(dir, knownFile), func() error { return unix.Unlink(dir + "/" + knownFile) },
					func() error { return os.WriteFile(dir+"/"+knownFile, []byte("x"), 0o600) }, peeking(dir, knownFile))
			},
			about: about(onPath(event.OpDelete, knownFile)),
		},
	})
}

// mountEvasions show the secret in another place of the tree.
func mountEvasions() map[string]evasion {
	return filed(map[string]evasion{
		"bind mount": {
			do:    func(dir string) error { return inOrder(bind(dir, "vault", "mnt"), reading(dir, "mnt/secret")) },
			about: about(onPath(event.OpRead, "mnt/secret")), steps: []event.Operation{event.OpMount},
		},
		"bind mount over a known file": {
			do:    func(dir string) error { return inOrder(bind(dir, vaultFile, knownFile), reading(dir, knownFile)) },
			about: about(onPath(event.OpMount, knownFile)),
		},
		"user namespace and bind mount": {
			do: func(dir string) error {
				self, err := os.Executable()
				if err != nil {
					return err
				}
				id := []syscall.SysProcIDMap{{HostID: 0, Size: 1}}
				return spawnWith(&syscall.ProcAttr{
					Env:   []string{deedVariable + "=" + evasionPrefix + "bind mount", "PLUMBLINE_DIR=" + dir},
					Files: []uintptr{0, 2, 2},
					Sys:   &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS, UidMappings: id, GidMappings: id},
				}, self)
			},
			about: about(onPath(event.OpRead, "mnt/secret")), steps: []event.Operation{event.OpUserns, event.OpMount},
		},
		"open_tree": {
			do:    inTree("vault", func(fd int) error { return take(unix.Openat(fd, "secret", unix.O_CLOEXEC, 0)) }),
			about: about(at(event.OpRead, "[detached tmpfs]")), steps: []event.Operation{event.OpCapability},
		},
		"open_tree, where anonymous files are known": {
			do: func(dir string) error {
				return inOrder(peekAnonymous, func() error {
					return inTree("vault", func(fd int) error { return take(unix.Openat(fd, "secret", unix.O_CLOEXEC, 0)) })(dir)
				})
			},
			about: about(at(event.OpRead, "[detached tmpfs]")),
		},
		"chroot": {
			do: func(dir string) error {
				return inOrder(func() error { return unix.Chroot(dir + "/vault") }, func() error { return open("/secret") })
			},
			about: about(at(event.OpRead, "/secret")), steps: []event.Operation{event.OpMount}, alone: true,
		},
		"chroot to where it has a known name": {
			prepare: func(t *testing.T, dir string) {
				if err := os.MkdirAll(dir+"/jail"+dir+"/open", 0o755); err != nil {
					t.Fatal(err)
				}
				putFile(t, dir+"/jail"+dir+"/"+knownFile, []byte(secret))
			},
			do: func(dir string) error {
				return inOrder(func() error { return unix.Chroot(dir + "/jail") }, reading(dir, knownFile))
			},
			about: about(onPath(event.OpMount, "jail")), alone: true,
		},
	})
}

// inTree does something with a directory that is mounted nowhere.
func inTree(name string, do func(fd int) error) func(string) error {
	return func(dir string) error {
		fd, err := unix.OpenTree(unix.AT_FDCWD, dir+"/"+name, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return do(fd)
	}
}

// peekAnonymous opens a file of the kind that is in no tree.
func peekAnonymous() error {
	fd, err := unix.MemfdCreate("anonymous", unix.MFD_CLOEXEC)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return peek(fdPath(fd))
}

// rememberedEvasions open a known file first, so that its inode is known, and then by another name.
func rememberedEvasions() map[string]evasion {
	alias := about(onPath(event.OpRead, aliasFile))
	return filed(map[string]evasion{
		"remembered: hard link": {do: func(dir string) error {
			return inOrder(peeking(dir, knownFile), link(dir, knownFile, aliasFile), peeking(dir, aliasFile))
		}, about: alias, steps: []event.Operation{event.OpLink}},
		"remembered: rename": {do: func(dir string) error {
			return inOrder(peeking(dir, knownFile), rename(dir, knownFile, aliasFile), peeking(dir, aliasFile))
		}, about: alias, steps: []event.Operation{event.OpRename}},
		"remembered: rename of the directory": {do: func(dir string) error {
			return inOrder(peeking(dir, knownFile), rename(dir, "open", "moved"), peeking(dir, "moved/known"))
		}, about: about(onPath(event.OpRead, "moved/known")), steps: []event.Operation{event.OpRename}},
		"remembered: bind mount": {do: func(dir string) error {
			return inOrder(peeking(dir, knownFile), bind(dir, "open", "mnt"), peeking(dir, "mnt/known"))
		}, about: about(onPath(event.OpRead, "mnt/known")), steps: []event.Operation{event.OpMount}},
		"remembered: by its name after the bind mount": {do: func(dir string) error {
			return inOrder(bind(dir, "open", "mnt"), peeking(dir, knownFile), peeking(dir, knownFile), peeking(dir, "mnt/known"))
		}, about: about(onPath(event.OpRead, "mnt/known")), steps: []event.Operation{event.OpMount}},
		"remembered: open for another use": {do: func(dir string) error {
			return inOrder(peeking(dir, knownFile), func() error {
				return closing(unix.Open(dir+"/"+knownFile, unix.O_RDWR|unix.O_CLOEXEC, 0))
			})
		}, about: about(onPath(event.OpWrite, knownFile))},
	})
}

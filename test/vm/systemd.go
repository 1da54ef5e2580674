package vm

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// userlandFor is how long a systemd userland is used before it is made anew.
const userlandFor = 7 * 24 * time.Hour

// Packages of a systemd userland, besides Debian's essential ones.
func systemdPackages() []string { return []string{"systemd-sysv", "dbus", "udev", "kmod", "procps"} }

// ProgramPackages are real programs to watch, and what exercises them.
func ProgramPackages() []string {
	return []string{"nginx-light", "postgresql", "openjdk-17-jre-headless", "cron", "curl"}
}

// SystemdUserland gets a tree of Debian bookworm with systemd and further packages as a tar file, from the
// cache if it is younger than a week. It takes minutes the first time, and root.
func SystemdUserland(ctx context.Context, more ...string) (string, error) {
	cache, err := CacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, "systemd")
	unlock, err := lock(dir)
	if err != nil {
		return "", err
	}
	defer unlock()
	packages := strings.Join(append(systemdPackages(), more...), ",")
	sum := sha256.Sum256([]byte(packages))
	tar := filepath.Join(dir, fmt.Sprintf("bookworm-%x.tar", sum[:6]))
	if info, err := os.Stat(tar); err == nil && time.Since(info.ModTime()) < userlandFor {
		return tar, nil
	}
	machine, err := machineSources("/etc/apt")
	if err != nil {
		return "", err
	}
	archive, ok := archiveFor(machine, "bookworm")
	if !ok {
		return "", errors.New("make systemd userland: the machine's apt sources have no Debian archive")
	}
	partial := filepath.Join(dir, "partial.tar")
	out, err := exec.CommandContext(ctx, "mmdebstrap", "--quiet", "--variant=minbase", "--architectures=amd64",
		"--aptopt=Acquire::Languages \"none\"", "--dpkgopt=path-exclude=/usr/share/man/*", "--dpkgopt=path-exclude=/usr/share/doc/*",
		"--dpkgopt=path-exclude=/usr/share/locale/*", "--include="+packages,
		"bookworm", partial, "deb "+archive.uri+" bookworm main").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("make systemd userland: %w: %s", err, tail(out, 20))
	}
	return tar, os.Rename(partial, tar)
}

// Systemd is a guest with a systemd userland. It runs a script as its only test.
type Systemd struct {
	Kernel  Kernel
	Tar     string   // of SystemdUserland
	Files   []File   // put over the tree
	Off     []string // units of the tree that do not start by themselves
	Script  string   // on this machine
	Timeout time.Duration
}

// runner is the unit that runs the script and tells the host how it ended.
const runnerUnit = `[Unit]
Description=test of this guest
After=multi-user.target
[Service]
Type=simple
ExecStart=/bin/sh /vmtest/run
StandardOutput=file:/dev/ttyS1
StandardError=inherit
ExecStopPost=/bin/systemctl poweroff -ff
[Install]
WantedBy=multi-user.target
`

// Run boots the guest and returns how the script ended.
func (s *Systemd) Run(ctx context.Context, live io.Writer) (Result, error) {
	dir, err := os.MkdirTemp("", "plumbline-systemd-")
	if err != nil {
		return Result{}, fmt.Errorf("make guest: %w", err)
	}
	defer os.RemoveAll(dir)
	disk, err := s.makeDisk(ctx, dir)
	if err != nil {
		return Result{}, err
	}
	if s.Timeout == 0 {
		s.Timeout = 30 * time.Minute
	}
	ctx, cancel := context.WithTimeout(ctx, s.Timeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", s.qemu(disk, filepath.Join(dir, "console"))...)
	cmd.WaitDelay = 5 * time.Second
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	out, err := cmd.StdoutPipe()
	if err != nil {
		return Result{}, err
	}
	r := &receiver{live: live, start: time.Now()}
	if err := cmd.Start(); err != nil {
		return Result{}, fmt.Errorf("start QEMU: %w", err)
	}
	readErr := r.read(out)
	waitErr := cmd.Wait()
	if len(r.results) != 1 {
		console, _ := os.ReadFile(filepath.Join(dir, "console"))
		err := fmt.Errorf("boot %s with systemd: the script did not end (%w); the console ends with:\n%s%s",
			s.Kernel.Version, errors.Join(ctx.Err(), readErr, waitErr), tail(console, 30), complaints.Bytes())
		if r.current != nil {
			err = fmt.Errorf("%w\nthe script's output ends with:\n%s", err, tail(r.current.Output, 30))
		}
		return Result{}, err
	}
	return r.results[0], nil
}

// qemu is the command line. One processor: with two, 6.1 hung now and then, as in the matrix.
func (s *Systemd) qemu(disk, console string) []string {
	return []string{
		"-accel", "tcg,thread=multi", "-machine", "q35", "-cpu", "Nehalem", "-smp", "1", "-m", "2G",
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-kernel", s.Kernel.Image,
		"-drive", "file=" + disk + ",if=none,id=root,format=raw,cache=unsafe", "-device", "nvme,drive=root,serial=root",
		"-chardev", "file,id=console,path=" + console, "-chardev", "stdio,id=results,signal=off",
		"-serial", "chardev:console", "-serial", "chardev:results",
		"-append", "root=/dev/nvme0n1 rw console=ttyS0 " + coarseTimers + " oops=panic panic=-1 mitigations=off quiet systemd.show_status=0 net.ifnames=0 lsm=" + lsmWithBPF,
	}
}

// files are what is put over the tree.
func (s *Systemd) files() []File {
	run := fmt.Sprintf("printf '%s\\n%ssystemd\\n'\n/bin/sh /vmtest/script 2>&1\nprintf '\\n%s%%d\\n%s\\n' $?\nsync\nsleep 0.2\n",
		octal(MarkReady), octal(MarkStep), octal(MarkExit), octal(MarkEnd))
	return append([]File{
		{Path: "/etc/systemd/system/vmtest.service", Data: []byte(runnerUnit), Mode: 0o644},
		{Path: "/vmtest/run", Data: []byte(run)},
		{Path: "/vmtest/script", From: s.Script},
		{Path: "/etc/hostname", Data: []byte("guest\n"), Mode: 0o644},
		{Path: "/etc/fstab", Data: []byte("\n"), Mode: 0o644},
	}, s.Files...)
}

// makeDisk unpacks the tree, adds the files, and packs it into an ext4 image. Nothing is mounted.
func (s *Systemd) makeDisk(ctx context.Context, dir string) (string, error) {
	tree, disk := filepath.Join(dir, "tree"), filepath.Join(dir, "disk")
	if err := os.Mkdir(tree, 0o755); err != nil {
		return "", err
	}
	if out, err := exec.CommandContext(ctx, "tar", "-C", tree, "--exclude=./dev/*", "-xf", s.Tar).CombinedOutput(); err != nil {
		return "", fmt.Errorf("unpack userland: %w: %s", err, out)
	}
	for _, f := range s.files() {
		if err := put(tree, f); err != nil {
			return "", err
		}
	}
	wants := filepath.Join(tree, "etc/systemd/system/multi-user.target.wants")
	if err := os.MkdirAll(wants, 0o755); err != nil {
		return "", err
	}
	if err := os.Symlink("/etc/systemd/system/vmtest.service", filepath.Join(wants, "vmtest.service")); err != nil {
		return "", err
	}
	for _, unit := range s.Off {
		if err := os.Remove(filepath.Join(wants, unit)); err != nil {
			return "", fmt.Errorf("turn off %s: %w", unit, err)
		}
	}
	for _, noise := range []string{"apt-daily.timer", "apt-daily-upgrade.timer", "e2scrub_all.timer", "fstrim.timer", "e2scrub_reap.service"} {
		if err := os.Symlink("/dev/null", filepath.Join(tree, "etc/systemd/system", noise)); err != nil && !errors.Is(err, os.ErrExist) {
			return "", err
		}
	}
	out, err := exec.CommandContext(ctx, "mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-d", tree, "-L", "root", disk, "2G").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("make disk: %w: %s", err, out)
	}
	return disk, os.RemoveAll(tree)
}

// octal writes the mark's control character so that printf of sh makes it again.
func octal(mark string) string { return strings.ReplaceAll(mark, "\x02", `\002`) }

func put(tree string, f File) error {
	data := f.Data
	if f.From != "" {
		var err error
		if data, err = os.ReadFile(f.From); err != nil {
			return fmt.Errorf("add %s: %w", f.Path, err)
		}
	}
	mode := os.FileMode(f.Mode)
	if mode == 0 {
		mode = 0o755
	}
	to := filepath.Join(tree, f.Path)
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	return os.WriteFile(to, data, mode)
}

package event

// Hooks are the kernel's hooks that ask about the operation, by the names of LSM hooks; with the strength fmod_ret they
// are the functions security_NAME. Those of the network are of cgroups; where the layout of cgroups has none,
// socket_connect and socket_bind take their place. Those of OpAccept, OpDup, OpDNSQuery and OpTCPBegin only see it; OpDup's are written without what
// an architecture puts before the names of system calls.
func (o Operation) Hooks() []string {
	switch o {
	case OpExec:
		return []string{"bprm_check_security"}
	case OpLibrary:
		return []string{"mmap_file", "file_mprotect", "file_open"}
	case OpRead:
		return []string{"file_open"}
	case OpWrite:
		return []string{"file_open", "path_truncate", "task_alloc"}
	case OpCreate:
		return []string{"path_mknod", "path_mkdir", "path_symlink"}
	case OpDelete:
		return []string{"path_unlink", "path_rmdir"}
	case OpRename:
		return []string{"path_rename"}
	case OpLink:
		return []string{"path_link"}
	case OpAttributes:
		return []string{"path_chmod", "path_chown"}
	case OpMount:
		return []string{"sb_mount", "move_mount", "sb_pivotroot", "sb_umount", "path_chroot"}
	case OpUnixConnect:
		return []string{"unix_stream_connect", "unix_may_send"}
	case OpUnixBind:
		return []string{"socket_bind"}
	case OpListen:
		return []string{"socket_listen"}
	case OpConnect:
		return []string{"cgroup/connect4", "cgroup/connect6"}
	case OpBind:
		return []string{"cgroup/bind4", "cgroup/bind6"}
	case OpSend:
		return []string{"cgroup/sendmsg4", "cgroup/sendmsg6"}
	case OpAccept:
		return []string{"fentry/security_sock_graft"}
	case OpDup:
		return []string{"fexit/sys_dup", "fexit/sys_dup2", "fexit/sys_dup3"}
	case OpDNSQuery:
		return []string{"fentry/udp_sendmsg", "fentry/udpv6_sendmsg"}
	case OpTCPBegin:
		return []string{"fentry/tcp_sendmsg"}
	}
	return o.privilegeHooks()
}

func (o Operation) privilegeHooks() []string {
	switch o {
	case OpSocket:
		return []string{"socket_create"}
	case OpCapability:
		return []string{"capable"}
	case OpPtrace:
		return []string{"ptrace_access_check", "ptrace_traceme"}
	case OpUserns:
		return []string{"userns_create"}
	case OpNamespace:
		return []string{"capable", "task_alloc"}
	case OpExecAsRoot, OpExecAsUser, OpExecAsGroup, OpExecWithCapabilities:
		return []string{"bprm_creds_from_file"}
	case OpModule:
		return []string{"kernel_read_file", "kernel_load_data"}
	case OpBPF:
		return []string{"bpf"}
	case OpPerf:
		return []string{"perf_event_open"}
	case OpIOUring, OpUserfault:
		return []string{"inode_init_security_anon"}
	case OpSetuid:
		return []string{"task_fix_setuid"}
	case OpSetgid:
		return []string{"task_fix_setgid"}
	case OpSignal:
		return []string{"task_kill", "file_send_sigiotask"}
	case OpKeyctl:
		return []string{"key_alloc", "key_permission"}
	}
	return nil
}

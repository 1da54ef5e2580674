package rule

import (
	"time"

	"github.com/plumbline-io/plumbline/pkg/event"
)

func execs() classes { return kindsOf(event.Exec, event.ExecCheck) }

func isExec(ev *event.Event) bool { return ev.Kind == event.Exec || ev.Kind == event.ExecCheck }

// opens are the operations that open or make a file.
func opens() classes { return opsOf(event.OpRead, event.OpWrite, event.OpCreate) }

// descriptors are the operations that make a descriptor.
func descriptors() classes { return opens() &^ (directories() | links()) }

// results are the classes of system calls whose outcome is known.
func results() classes { return execs() | kindsOf(event.Access) }

func eventFields() []field {
	verdict := text("evt.verdict", allClasses, func(e *Env) string { return e.Event.Verdict.String() })
	verdict.words = []string{event.Allow.String(), event.Audit.String(), event.Deny.String()}
	hook := text("evt.hook", allClasses, func(e *Env) string { return e.Event.Hook.String() })
	for h := event.HookTracepoint; h <= event.HookFentry; h++ {
		hook.words = append(hook.words, h.String())
	}
	operation := text("evt.operation", kindsOf(event.Access), func(e *Env) string { return e.Event.Access.Op.String() })
	for o := event.OpExec + 1; o < event.OpCount; o++ { // executions are events of their own
		operation.words = append(operation.words, o.String())
	}
	rawres := number("evt.rawres", results(), rawResult)
	rawres.vague = true
	traced := opsOf(event.OpPtrace, event.OpWrite)
	fields := []field{
		flag("evt.by_ancestor", traced, func(e *Env) bool { return e.Event.Access.ByAncestor }),
		flag("evt.is_host_namespace", traced|opsOf(event.OpRead), func(e *Env) bool { return e.Event.Access.HostNamespace }),
		verdict, flag("evt.in_baseline", kindsOf(event.Access)&^onlyTold(), func(e *Env) bool { return e.Event.Access.Known }), hook, operation, written(text("evt.value", opsWhere(event.Operation.OnNumber), operationValue))[0],
		text("evt.path", opsWhere(event.Operation.OnPath)&kindsOf(event.Access), func(e *Env) string { return e.Event.Access.Path }),
		text("evt.key", kindsOf(event.Access), func(e *Env) string { return e.Event.Access.Key.String() }),
		// Older rules of Falco ask for the end of a call, which is where we are.
		shared(text("evt.dir", allClasses, func(*Env) string { return "<" })),
		number("evt.count", allClasses, func(*Env) (int64, bool) { return 1, true }),
		flag("evt.is_open_create", descriptors(), func(e *Env) bool { return e.Event.Access.Op == event.OpCreate }),
		flag("evt.is_async", allClasses, func(*Env) bool { return false }),
		shared(text("evt.source", allClasses, func(e *Env) string { return sourceOf(1 << e.class()) })),
		text("syscall.type", syscallClasses(), func(e *Env) string { return classType(e.class()) }),
		flag("evt.failed", results(), func(e *Env) bool { return e.Event.Verdict == event.Deny }),
	}
	fields = append(fields, timeFields()...)
	return append(fields, grouped('B',
		text("evt.type", allClasses, func(e *Env) string { return classType(e.class()) }),
		shared(text("evt.res", results(), func(e *Env) string {
			if e.Event.Verdict == event.Deny {
				return "EPERM"
			}
			return "SUCCESS"
		})),
		rawres, number("evt.num", allClasses, func(e *Env) (int64, bool) { return e.Number, e.Number > 0 }),
		flag("evt.is_open_read", descriptors(), func(e *Env) bool { return e.Event.Access.Op == event.OpRead }),
		flag("evt.is_open_write", descriptors(), func(e *Env) bool { return e.Event.Access.Op != event.OpRead }),
	)...)
}

// syscallClasses are the events that a system call is behind.
func syscallClasses() classes { return results() | kindsOf(event.Fork, event.Exit) }

// timeFields are the time of the event in Falco's forms. Those in words are in UTC.
func timeFields() []field {
	wall := func(name string, get func(ns int64) int64) field {
		return number(name, allClasses, func(e *Env) (int64, bool) { return get(e.Wall), true })
	}
	words := func(name, layout string) field {
		return text(name, allClasses, func(e *Env) string {
			from := len(e.text)
			e.text = time.Unix(0, e.Wall).UTC().AppendFormat(e.text, layout)
			return e.since(from)
		})
	}
	const second = int64(time.Second)
	fields := []field{
		wall("evt.time", func(ns int64) int64 { return ns }), wall("evt.rawtime", func(ns int64) int64 { return ns }),
		wall("evt.rawtime.s", func(ns int64) int64 { return ns / second }), wall("evt.rawtime.ns", func(ns int64) int64 { return ns % second }),
	}
	return append(fields, written(
		words("evt.time.s", time.TimeOnly), words("evt.time.iso8601", "2006-01-02T15:04:05.000000000-0700"),
		words("evt.datetime", "2006-01-02 15:04:05.000000000"), words("evt.datetime.s", time.DateTime),
	)...)
}

// operationValue is what the operation is about where that is a number, in words where it has some.
func operationValue(e *Env) string {
	from := len(e.text)
	e.text = event.AppendValue(e.text, e.Event.Access.Op, e.Event.Access.Value)
	return e.since(from)
}

// rawResult is what the system call returns, as far as it is known at the hook: whether it is refused, and the
// descriptor where the hook is behind the call.
func rawResult(e *Env) (int64, bool) {
	switch {
	case e.Event.Verdict == event.Deny:
		return -1, true // EPERM
	case e.Event.Kind == event.Access && e.Event.Access.Op == event.OpDup:
		return int64(e.Event.Access.Descriptor), true
	case e.Event.Kind == event.Exec:
		return 0, true
	}
	return notNegative, true
}

func workloadFields() []field {
	id := text("container.id", allClasses, func(e *Env) string {
		if e.Workload.ContainerID == "" {
			return "host" // as Falco says it
		}
		return e.Workload.ContainerID
	})
	id.group, id.few = 'D', true // host, above all
	return []field{
		id,
		text("workload.name", allClasses, func(e *Env) string { return e.Workload.Name }),
		shared(text("workload.kind", allClasses, func(e *Env) string { return e.Workload.Kind })),
		text("workload.spiffe_id", allClasses, func(e *Env) string { return e.Workload.SPIFFEID }),
	}
}

func pauseFields() []field {
	pauses := kindsOf(event.Pause)
	return []field{
		flag("gc.is_gc", pauses, func(e *Env) bool { return e.Event.Pause.GC }),
		number("gc.pause_us", pauses, func(e *Env) (int64, bool) { return microseconds(e.Event.Pause.Total), true }),
		number("gc.stopping_us", pauses, func(e *Env) (int64, bool) {
			return microseconds(e.Event.Pause.Stopping), e.Event.Pause.Stopping != 0
		}),
		number("gc.reason", pauses, func(e *Env) (int64, bool) {
			return int64(e.Event.Pause.Reason), e.Event.Pause.Reason != 0
		}),
	}
}

func microseconds(ns uint64) int64 { return int64(ns / 1000) }

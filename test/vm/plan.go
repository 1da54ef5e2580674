package vm

import "time"

// Plan is what the guest's init does. It travels as /plan.json.
type Plan struct {
	Cgroups string // v2, hybrid or legacy
	Steps   []Step
}

// Step is one program that the guest runs.
type Step struct {
	Name    string
	Dir     string
	Args    []string
	Env     []string
	Timeout time.Duration
	// Fetch are files of the guest that are sent back after the step, if they are there.
	Fetch []string
}

// Marks begin the lines by which init tells the host what happens. A program's output does not have
// them by accident.
const (
	MarkReady = "\x02vm ready "
	MarkStep  = "\x02vm step "
	MarkExit  = "\x02vm exit "
	MarkFile  = "\x02vm file " // NAME SIZE: one of Step.Fetch follows
	MarkData  = "\x02vm data " // base64
	MarkEnd   = "\x02vm end"
)

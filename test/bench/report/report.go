// Package report is what the benchmark in a VM measured, as it travels from the guest to the host. It must
// not judge: the goals travel with the numbers.
package report

import (
	"cmp"
	"slices"
)

// Report of one boot. Costs are in instructions, which the guest's clock shows as nanoseconds.
type Report struct {
	Loads []Load
	Start float64 // the agent's and the kernel threads' work until it watched ...
	// ... and how much of that in the kernel, where programs are verified; to a timer's tick.
	StartKernel float64
	RSS         uint64 // bytes, of the agent's processes after all loads
}

// Load is one kind of operation with and without the agent.
type Load struct {
	Name, What            string
	Goal                  float64 // Beside to the mean of Before and After
	Before, Beside, After Cost
}

// Cost is what one operation of one measurement takes.
type Cost struct {
	Inline  float64 // who does it
	Agent   float64 // the agent's processes, while the load ran and in the moment after
	Threads float64 // the kernel's threads, the same
	Idle    float64 // what both take in a second without a load; the moment after the load is less that
	// Events that reached the agent, by kind; nil if it does not say.
	Events map[string]float64
}

// AllIn is what one operation costs the machine.
func (c Cost) AllIn() float64 { return c.Inline + c.Agent + c.Threads }

// InlineOnly is what it costs who does it.
func (c Cost) InlineOnly() float64 { return c.Inline }

// None is the cost without an agent by how, a method of Cost.
func (l Load) None(how func(Cost) float64) float64 { return (how(l.Before) + how(l.After)) / 2 }

// Ratio is the cost beside the agent to that without.
func (l Load) Ratio(how func(Cost) float64) float64 { return how(l.Beside) / l.None(how) }

// Spread is by how much the two measurements without an agent differ, as a share: what is smaller
// than it was not seen.
func (l Load) Spread() float64 {
	a, b := l.Before.AllIn(), l.After.AllIn()
	return max(a, b)/min(a, b) - 1
}

// Median is the nth load of the boot with the median of the all-in ratios, and the least and the greatest of these.
func Median(boots []Report, nth int) (l Load, least, most float64) {
	loads := make([]Load, len(boots))
	for i, r := range boots {
		loads[i] = r.Loads[nth]
	}
	slices.SortFunc(loads, func(a, b Load) int { return cmp.Compare(a.Ratio(Cost.AllIn), b.Ratio(Cost.AllIn)) })
	return loads[len(loads)/2], loads[0].Ratio(Cost.AllIn), loads[len(loads)-1].Ratio(Cost.AllIn)
}

// Idle is what a second without a load takes with the agent and without it, at the median of the loads' moments
// before they began.
func (r Report) Idle() (beside, without float64) {
	var with, none []float64
	for _, l := range r.Loads {
		with, none = append(with, l.Beside.Idle), append(none, l.Before.Idle, l.After.Idle)
	}
	return median(with), median(none)
}

func median(of []float64) float64 {
	if len(of) == 0 {
		return 0
	}
	slices.Sort(of)
	return of[len(of)/2]
}

// Package scenario runs the scenario files of a test guest: each starts real programs under a real
// agent and says exactly what has to come of it. It must never run outside of a guest, where its
// commands would act on other people's processes.
//
//	# a file of test/vm/scenarios
//	mkcgroup demo/shop
//	start agent plumbline-agent run --scope $CGROUP/demo --alerts $WORK/alerts
//	waitfor agent attached
//	within demo/shop uname
//	count alerts 1 rule='Exec outside baseline' plumbline.key=/usr/bin/uname
package scenario

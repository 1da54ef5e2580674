// Package archtest checks the shape of this repository: who may import whom, who owns which
// third-party module, and what every package has to have. It holds tests only and must never be
// imported.
//
//	go test ./pkg/archtest
package archtest

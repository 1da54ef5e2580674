package rule

import "strings"

// AttackVersion is the version of MITRE ATT&CK whose ids Rule.Attack has. Files may have ids of earlier ones.
const AttackVersion = "19"

// attackRenamed maps ids of earlier versions to those of AttackVersion, as far as rules of ours and of
// Falco's have them.
func attackRenamed() map[string]string {
	return map[string]string{
		"T1070.002": "T1685.006", // clear Linux logs
		"T1562.001": "T1685",     // disable or modify tools
		"T1562.010": "T1689",     // downgrade attack
	}
}

// technique reads the id of a technique, Txxxx or Txxxx.xxx, of any version.
func technique(s string) (id string, ok bool) {
	id, sub, hasSub := strings.Cut(s, ".")
	if len(id) != 5 || id[0] != 'T' || !isDigits(id[1:]) || hasSub && (len(sub) != 3 || !isDigits(sub)) {
		return "", false
	}
	if now, renamed := attackRenamed()[s]; renamed {
		return now, true
	}
	return s, true
}

func isDigits(s string) bool { return strings.Trim(s, "0123456789") == "" }

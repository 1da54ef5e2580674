package rule

import "strings"

// alertFields are of what rules raise, for rules of source internal, and of windows.
func alertFields() []field {
	count := number("window.count", allClasses, func(e *Env) (int64, bool) { return int64(e.Count), e.Count > 0 })
	count.told = true
	return []field{
		count,
		text("alert.rule", alerts(), func(e *Env) string { return e.Alert.Name }),
		text("alert.severity", alerts(), func(e *Env) string { return strings.ToLower(e.Alert.Severity.String()) }),
		text("alert.family", alerts(), func(e *Env) string { return e.Alert.family() }),
		{name: "alert.tags", classes: alerts(), list: func(e *Env) ([]string, bool) { return e.Alert.Tags, len(e.Alert.Tags) > 0 }},
		{name: "alert.attack", classes: alerts(), list: func(e *Env) ([]string, bool) { return e.Alert.Attack, len(e.Alert.Attack) > 0 }},
	}
}

// family is the rule's first tag, which is execution, escape and the like in our catalogue. That of a drift
// rule is what its dimension belongs to.
func (r *Rule) family() string {
	for _, tag := range r.Tags {
		if tag != baselineTag {
			return tag
		}
	}
	return ""
}

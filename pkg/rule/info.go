package rule

// MacroInfo describes a macro for tools.
type MacroInfo struct {
	Name      string
	Condition string // what was appended included
	File      string
	Line      int
	Column    int
	Used      bool
}

// ListInfo describes a list for tools.
type ListInfo struct {
	Name   string
	Items  []string // those of the lists that it names included
	File   string
	Line   int
	Column int
	Used   bool
}

func (m *macro) info() MacroInfo {
	at := m.places[0]
	return MacroInfo{
		Name: m.name, Condition: newPassage(m.name, m.places...).text,
		File: at.file.Name, Line: at.node.Line, Column: at.node.Column, Used: m.used,
	}
}

func (l *list) info() ListInfo {
	at := l.places[0]
	return ListInfo{Name: l.name, Items: l.items, File: at.file.Name, Line: at.node.Line, Column: at.node.Column, Used: l.used}
}

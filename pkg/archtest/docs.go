package archtest

import (
	"fmt"
	"go/ast"
	"go/token"
	"slices"
	"strings"
)

// docs finds exported identifiers of packages that others import without a comment.
func docs(f file) []string {
	if f.generated || f.test || !strings.HasPrefix(f.pkg, "pkg/") && f.pkg != "rules" {
		return nil
	}
	var found []string
	for _, decl := range f.ast.Decls {
		switch d := decl.(type) {
		case *ast.FuncDecl:
			if d.Name.IsExported() && d.Doc == nil && !isMethodOfAll(d) && !isHidden(d) {
				found = append(found, fmt.Sprintf("%s has no comment", d.Name.Name))
			}
		case *ast.GenDecl:
			if d.Tok != token.IMPORT && d.Doc == nil {
				found = append(found, undocumented(d)...)
			}
		}
	}
	return found
}

// undocumented lists the exported names of a declaration that has no comment as a whole.
func undocumented(d *ast.GenDecl) []string {
	var found []string
	for _, spec := range d.Specs {
		var names []*ast.Ident
		var has bool
		switch s := spec.(type) {
		case *ast.TypeSpec:
			names, has = []*ast.Ident{s.Name}, s.Doc != nil || s.Comment != nil
		case *ast.ValueSpec:
			names, has = s.Names, s.Doc != nil || s.Comment != nil
		}
		for _, name := range names {
			if name.IsExported() && !has {
				found = append(found, fmt.Sprintf("%s has no comment", name.Name))
			}
		}
	}
	return found
}

// isMethodOfAll is true for methods whose meaning an interface of the standard library fixes.
func isMethodOfAll(d *ast.FuncDecl) bool {
	return d.Recv != nil && slices.Contains([]string{"String", "Error", "Unwrap", "Len", "Less", "Swap"}, d.Name.Name)
}

// isHidden is true for methods of types that are not exported.
func isHidden(d *ast.FuncDecl) bool {
	if d.Recv == nil || len(d.Recv.List) == 0 {
		return false
	}
	hidden := true
	ast.Inspect(d.Recv.List[0].Type, func(n ast.Node) bool {
		if name, ok := n.(*ast.Ident); ok && name.IsExported() {
			hidden = false
		}
		return true
	})
	return hidden
}

// functions finds those that are too long or take too much.
func functions(f file) []string {
	if f.generated || f.test {
		return nil
	}
	var found []string
	for _, decl := range f.ast.Decls {
		d, ok := decl.(*ast.FuncDecl)
		if !ok || d.Body == nil {
			continue
		}
		if lines := f.set.Position(d.End()).Line - f.set.Position(d.Pos()).Line + 1; lines > maxFunction {
			found = append(found, fmt.Sprintf("%s has %d lines, at most %d", d.Name.Name, lines, maxFunction))
		}
		if n := d.Type.Params.NumFields(); n > maxParams {
			found = append(found, fmt.Sprintf("%s takes %d parameters, at most %d: make it a Config", d.Name.Name, n, maxParams))
		}
	}
	return found
}

// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"encoding"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"dkms-go/internal/diagnose"
	"dkms-go/internal/finding"
	"dkms-go/internal/prebuilt"
	"dkms-go/internal/state"
)

// node is a part of a JSON Schema.
type node = map[string]any

// schemas are the schemas of docs/schema by their file.
type schemas map[string]node

func readSchemas(t *testing.T) schemas {
	t.Helper()
	files, err := filepath.Glob("../../docs/schema/*.json")
	if err != nil || len(files) == 0 {
		t.Fatal("no schemas", err)
	}
	all := schemas{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var n node
		if err := json.Unmarshal(text, &n); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		all[filepath.Base(file)] = n
	}
	return all
}

// at finds "file#/$defs/name", or the whole of a file.
func (s schemas) at(t *testing.T, ref string) node {
	t.Helper()
	file, path, _ := strings.Cut(ref, "#/")
	n := s[file]
	for _, word := range strings.FieldsFunc(path, func(r rune) bool { return r == '/' }) {
		n, _ = n[word].(node)
	}
	if n == nil {
		t.Fatalf("docs/schema has no %s", ref)
	}
	return n
}

// TestSchemasFitTypes holds the schemas against the types that are printed: the same
// fields, of the same type, and those required that are always there.
func TestSchemasFitTypes(t *testing.T) {
	all := readSchemas(t)
	for ref, v := range map[string]any{
		"dkms-status-1.json": struct {
			Schema   string          `json:"schema"`
			Modules  []statusItem    `json:"modules"`
			Outcomes []state.Outcome `json:"outcomes"`
		}{},
		"dkms-list-1.json": listDocument{}, "dkms-config-1.json": configDoc{}, "dkms-verify-1.json": verifyDocument{},
		"dkms-ready-1.json": readyDocument{}, "dkms-doctor-1.json": doctorDocument{}, "dkms-fsck-1.json": fsckDocument{},
		"dkms-lint-1.json": lintDocument{}, "dkms-log-1.json": logDocument{}, "dkms-key-1.json": keyDocument{},
		"dkms-cache-1.json#/$defs/stats": cacheDocument{}, "dkms-cache-1.json#/$defs/clean": cleanDocument{},
		"dkms-packages-1.json": packagesDocument{}, "dkms-init-1.json": initDocument{},
		"dkms-autoload-1.json": autoloadDocument{}, "dkms-result-1.json": resultDocument{},
		"dkms-preflight-1.json": preflightDocument{}, "dkms-matrix-1.json": matrixDocument{}, "dkms-explain-1.json": explainDocument{},
		"dkms-bundle-1.json":         prebuilt.Manifest{},
		"common.json#/$defs/finding": finding.Finding{}, "common.json#/$defs/diagnosis": diagnose.Diagnosis{},
	} {
		file, _, _ := strings.Cut(ref, "#")
		all.fits(t, file, ref, all.at(t, ref), reflect.TypeOf(v))
	}
}

// fits holds one part of a schema, in file, against a type. where is for people.
func (s schemas) fits(t *testing.T, file, where string, n node, typ reflect.Type) {
	t.Helper()
	for {
		ref, ok := n["$ref"].(string)
		if !ok {
			break
		}
		if at, _, _ := strings.Cut(ref, "#"); at != "" {
			file = at
		} else {
			ref = file + ref
		}
		n = s.at(t, ref)
	}
	for typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	switch kind := jsonType(typ); kind {
	case "object":
		if typ.Kind() == reflect.Struct {
			s.fieldsFit(t, file, where, n, typ)
		} else if values, ok := n["additionalProperties"].(node); ok {
			s.fits(t, file, where+"{}", values, typ.Elem())
		}
	case "array":
		items, _ := n["items"].(node)
		if items == nil {
			t.Errorf("%s: no items", where)
			return
		}
		s.fits(t, file, where+"[]", items, typ.Elem())
		fallthrough
	default:
		if got := schemaType(n); got != kind && !(kind == "number" && got == "integer") {
			t.Errorf("%s: the schema says %q, what is printed is %q", where, got, kind)
		}
	}
}

func (s schemas) fieldsFit(t *testing.T, file, where string, n node, typ reflect.Type) {
	t.Helper()
	properties, _ := n["properties"].(node)
	var required, always, names []string
	for _, r := range n["required"].([]any) {
		required = append(required, r.(string))
	}
	for _, f := range reflect.VisibleFields(typ) {
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "" || name == "-" {
			continue
		}
		names = append(names, name)
		if !strings.Contains(options, "omit") {
			always = append(always, name)
		}
		property, ok := properties[name].(node)
		if !ok {
			t.Errorf("%s: the schema has no %s", where, name)
			continue
		}
		s.fits(t, file, where+"."+name, property, f.Type)
	}
	for name := range properties {
		if !slices.Contains(names, name) {
			t.Errorf("%s: nothing prints %s", where, name)
		}
	}
	slices.Sort(required)
	slices.Sort(always)
	if !slices.Equal(required, always) {
		t.Errorf("%s: the schema requires %q, always printed are %q", where, required, always)
	}
}

// jsonType is how encoding/json prints a type.
func jsonType(typ reflect.Type) string {
	switch {
	case typ == reflect.TypeFor[time.Time](), typ.Implements(reflect.TypeFor[encoding.TextMarshaler]()):
		return "string"
	case typ.Kind() == reflect.Bool:
		return "boolean"
	case typ.Kind() == reflect.String:
		return "string"
	case typ.Kind() == reflect.Slice:
		return "array"
	case typ.Kind() == reflect.Struct, typ.Kind() == reflect.Map:
		return "object"
	case typ.Kind() == reflect.Float64:
		return "number"
	}
	return "integer"
}

// schemaType is what a schema lets pass.
func schemaType(n node) string {
	one := func(v any) string {
		switch v.(type) {
		case bool:
			return "boolean"
		case string:
			return "string"
		}
		return "integer"
	}
	if list, ok := n["enum"].([]any); ok {
		return one(list[0])
	}
	if v, ok := n["const"]; ok {
		return one(v)
	}
	word, _ := n["type"].(string)
	return word
}

// TestSchemaWords holds the lists of words in the schemas against the program's.
func TestSchemaWords(t *testing.T) {
	all := readSchemas(t)
	var classes, reasons, actions []any
	for _, c := range diagnose.Classes() {
		classes = append(classes, string(c))
	}
	seen := map[string]bool{}
	for _, row := range exitTable {
		word := row.Reason.String()
		if seen[word] {
			t.Errorf("two reasons have the word %q", word)
		}
		seen[word] = true
		reasons = append(reasons, word)
	}
	for _, v := range verbTable {
		if v.Result {
			actions = append(actions, v.Name)
		}
	}
	for ref, want := range map[string][]any{
		"common.json#/$defs/class": classes, "common.json#/$defs/reason": reasons, "dkms-result-1.json#/properties/action": actions,
	} {
		got, _ := all.at(t, ref)["examples"].([]any)
		for _, w := range want {
			if !slices.Contains(got, w) {
				t.Errorf("docs/schema/%s has no %q", ref, w)
			}
		}
		for _, g := range got {
			if !slices.Contains(want, g) {
				t.Errorf("docs/schema/%s has %q, which there isn't", ref, g)
			}
		}
	}
}

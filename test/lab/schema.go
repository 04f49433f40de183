// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// Schemas are the schemas of docs/schema, made strict: what they don't promise is an
// error, and where they give examples there is nothing else.
type Schemas struct {
	mu       sync.Mutex
	compiler *jsonschema.Compiler
	names    map[string]bool
}

// LoadSchemas reads the schemas of the directory dir.
func LoadSchemas(dir string) (*Schemas, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil || len(files) == 0 {
		return nil, errors.Join(fs.ErrNotExist, err)
	}
	s := &Schemas{compiler: jsonschema.NewCompiler(), names: map[string]bool{}}
	s.compiler.AssertFormat()
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		strict(doc)
		name := filepath.Base(file)
		if err := s.compiler.AddResource(address(name), doc); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		s.names[name] = true
	}
	for name := range s.names {
		if _, err := s.compiler.Compile(address(name)); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// JSONSchemas are the schemas of the repository.
func JSONSchemas(t testing.TB) *Schemas {
	t.Helper()
	s, err := LoadSchemas(filepath.Join(Repo(t), "docs", "schema"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// CheckJSON fails a test whose dkms has printed what docs/schema doesn't promise.
func CheckJSON(t testing.TB, text string) {
	t.Helper()
	if err := JSONSchemas(t).Check([]byte(text)); err != nil {
		t.Errorf("what dkms prints is not what docs/schema promises: %v\n%s", err, text)
	}
}

// address is where the compiler finds a schema.
func address(file string) string { return "file:///schema/" + file }

// strict closes what a schema leaves open for later versions.
func strict(v any) {
	switch v := v.(type) {
	case []any:
		for _, e := range v {
			strict(e)
		}
	case map[string]any:
		if examples, ok := v["examples"].([]any); ok {
			v["enum"] = examples
		}
		if properties, ok := v["properties"].(map[string]any); ok {
			if _, said := v["additionalProperties"]; !said {
				v["additionalProperties"] = false
			}
			strict(mapValues(properties))
		}
		for key, e := range v {
			if key != "properties" {
				strict(e)
			}
		}
	}
}

func mapValues(m map[string]any) []any {
	var list []any
	for _, v := range m {
		list = append(list, v)
	}
	return list
}

// Check holds one JSON document against the schema that it names.
func (s *Schemas) Check(text []byte) error {
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return fmt.Errorf("not one JSON document: %w", err)
	}
	object, _ := doc.(map[string]any)
	name, _ := object["schema"].(string)
	file := strings.ReplaceAll(name, "/", "-") + ".json"
	if !s.names[file] {
		return fmt.Errorf("docs/schema has no %s, for the schema %q", file, name)
	}
	s.mu.Lock()
	schema, err := s.compiler.Compile(address(file))
	s.mu.Unlock()
	if err != nil {
		return err
	}
	return schema.Validate(doc)
}

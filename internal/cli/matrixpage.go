// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"fmt"
	"html/template"
	"io"

	"dkms-go/internal/action"
)

// pageText is the page of `matrix --html`: all in one file, without scripts. What
// comes from logs and confs is text to html/template, which escapes it.
const pageText = `<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{{.Title}}</title>
<style>
:root { --ground: #fff; --text: #1c1c1e; --dim: #5f6368; --line: #d9dce1; --box: #f4f5f7;
  --ok: #e2f4e5; --oktext: #14521f; --bad: #fbe3e1; --badtext: #8c1d13; --off: #eceef1; --offtext: #45494f; --mark: #ffe69a; }
@media (prefers-color-scheme: dark) {
  :root { --ground: #16181c; --text: #e7e9ec; --dim: #a2a8b0; --line: #363a41; --box: #1f2227;
    --ok: #17381f; --oktext: #a5e5b1; --bad: #4a1d1a; --badtext: #ffb8b0; --off: #2a2d33; --offtext: #c3c8cf; --mark: #6b5300; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 75rem; background: var(--ground); color: var(--text);
  font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.4rem; margin: 0 0 .25rem; }
h2 { font-size: 1.05rem; margin: 0 0 .5rem; }
p { margin: .25rem 0; }
.dim { color: var(--dim); }
.scroll { overflow-x: auto; margin: 1rem 0 2rem; border: 1px solid var(--line); border-radius: .5rem; }
table { border-collapse: collapse; width: 100%; overflow-wrap: normal; }
th, td { padding: 0; text-align: left; white-space: nowrap; border-bottom: 1px solid var(--line); }
tr:last-child th, tr:last-child td { border-bottom: 0; }
th { padding: .5rem .75rem; font-weight: 600; background: var(--box); }
tbody th { position: sticky; left: 0; }
td a { display: block; padding: .5rem .75rem; text-decoration: none; }
td a:hover, td a:focus { text-decoration: underline; }
.builds { background: var(--ok); color: var(--oktext); }
.fails { background: var(--bad); color: var(--badtext); font-weight: 600; }
.other { background: var(--off); color: var(--offtext); }
td a { color: inherit; }
section { border-top: 1px solid var(--line); padding: 1rem 0; }
section:target { outline: 2px solid var(--dim); outline-offset: .5rem; }
pre { margin: .5rem 0; padding: .75rem; max-height: 30rem; overflow: auto; background: var(--box); border: 1px solid var(--line);
  border-radius: .5rem; font: .8rem/1.45 ui-monospace, monospace; }
mark { background: var(--mark); color: inherit; }
.tag { display: inline-block; padding: 0 .5rem; border-radius: .5rem; }
ul { margin: .25rem 0; padding-left: 1.25rem; }
</style>
</head>
<body>
<h1 id="top">{{.Title}}</h1>
<p class="dim">{{.Summary}}</p>
<div class="scroll"><table>
<thead><tr><th scope="col">Module</th>{{range .Kernels}}<th scope="col">{{.}}</th>{{end}}</tr></thead>
<tbody>
{{range .Rows}}<tr><th scope="row">{{.Module}}</th>{{range .Cells}}<td class="{{.Style}}"><a href="#{{.ID}}">{{.Text}}</a></td>{{end}}</tr>
{{end}}</tbody>
</table></div>
{{range .Rows}}{{range .Cells}}<section id="{{.ID}}">
<h2>{{.Module}} for {{.Kernel}} <span class="tag {{.Style}}">{{.Text}}</span></h2>
{{if .Error}}<p><strong>{{.Error}}</strong></p>
{{end}}{{if .Cause}}<p>Cause: {{.Cause}}</p>
{{end}}{{if .Next}}<ul>{{range .Next}}<li>{{.}}</li>{{end}}</ul>
{{end}}{{if .Cut}}<p class="dim">A part of the log:</p>
{{end}}{{if .Log}}<pre>{{.Before}}{{if .Line}}<mark>{{.Line}}</mark>{{end}}{{.After}}</pre>
{{end}}<p><a href="#top">Back to the table</a></p>
</section>
{{end}}{{end}}</body>
</html>
`

// pageCell is one cell of the page with its section.
type pageCell struct {
	ID, Module, Kernel, Text, Style string
	Error, Cause                    string
	Next                            []string
	// Before, Line and After are the log; Line is the one with the first error.
	Log, Cut            bool
	Before, Line, After string
}

type pageRow struct {
	Module string
	Cells  []pageCell
}

type page struct {
	Title, Summary string
	Kernels        []string
	Rows           []pageRow
}

// page writes the page.
func (t table) page(w io.Writer) error {
	p := page{Title: "Builds of modules", Kernels: releasesOf(t.targets)}
	if len(t.ids) == 1 {
		p.Title = "Builds of " + t.ids[0].String()
	}
	counts := map[action.TriedAs]int{}
	for i, id := range t.ids {
		row := pageRow{Module: id.String()}
		for j, target := range t.targets {
			tried := t.tried[target.Key(id)]
			counts[tried.Outcome]++
			c := cellOf(tried)
			c.ID = fmt.Sprintf("m%d-k%d", i+1, j+1)
			row.Cells = append(row.Cells, c)
		}
		p.Rows = append(p.Rows, row)
	}
	p.Summary = fmt.Sprintf("%d of %d build, %d fail, %d are excluded. A cell leads to its log.",
		counts[action.Builds], len(t.ids)*len(t.targets), counts[action.Fails], counts[action.Excludes])
	parsed, err := template.New("matrix").Parse(pageText)
	if err != nil {
		return err
	}
	return parsed.Execute(w, p)
}

func cellOf(t action.Tried) pageCell {
	c := pageCell{Module: t.Key.ID.String(), Kernel: t.Key.Kernel, Text: cell(t), Style: "other"}
	switch t.Outcome {
	case action.Builds:
		c.Style = "builds"
	case action.Fails:
		c.Style = "fails"
	}
	c.Log, c.Cut, c.Before = len(t.Log) > 0, !bytes.HasPrefix(t.Log, []byte("DKMS (")), string(t.Log)
	c.Cut = c.Cut && c.Log
	f := t.Failure
	if f == nil {
		return c
	}
	c.Error, c.Next = triedError(f), nil
	for _, step := range triedNext(f) {
		c.Next = append(c.Next, step)
	}
	d := f.Diagnosis
	if d == nil {
		return c
	}
	if d.What != "" {
		c.Cause = fmt.Sprintf("%s (%s)", d.What, d.Class)
	}
	if at := bytes.Index(t.Log, []byte(d.Error)); at >= 0 && d.Error != "" {
		from := bytes.LastIndexByte(t.Log[:at], '\n') + 1
		to := at + len(d.Error)
		if end := bytes.IndexByte(t.Log[to:], '\n'); end >= 0 {
			to += end
		} else {
			to = len(t.Log)
		}
		c.Before, c.Line, c.After = string(t.Log[:from]), string(t.Log[from:to]), string(t.Log[to:])
	}
	return c
}

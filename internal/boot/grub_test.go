// SPDX-License-Identifier: Apache-2.0

package boot

import (
	"os"
	"strings"
	"testing"
)

// fedora is the shape of Fedora's grub.cfg: entries come from files.
const fedora = `set pager=1
if [ -f ${config_directory}/grubenv ]; then
  load_env -f ${config_directory}/grubenv
elif [ -s $prefix/grubenv ]; then
  load_env
fi
if [ "${next_entry}" ] ; then
   set default="${next_entry}"
   set next_entry=
   save_env next_entry
   set boot_once=true
else
   set default="${saved_entry}"
fi
if [ x"${feature_menuentry_id}" = xy ]; then
  menuentry_id_option="--id"
else
  menuentry_id_option=""
fi
export menuentry_id_option
if [ "${boot_success}" = "1" -o "${boot_indeterminate}" = "1" ]; then
  set last_boot_ok=1
else
  set last_boot_ok=0
fi
insmod part_gpt
search --no-floppy --fs-uuid --set=boot 0f4d
if [ -z "${kernelopts}" ]; then
  set kernelopts="root=/dev/vda1 ro "
fi
insmod blscfg
blscfg
if [ -n "${boot_counter}" -a "${boot_success}" = "0" ]; then
  if [ "${boot_counter}" = "0" -o "${boot_counter}" = "-1" ]; then
    set default=1
    set boot_counter=-1
  else
    decrement boot_counter
  fi
fi
menuentry 'UEFI Firmware Settings' $menuentry_id_option 'uefi-firmware' {
	fwsetup
}
`

// block is the text of a grubenv file.
func block(lines ...string) string {
	text := envHead + strings.Join(lines, "\n")
	if len(lines) > 0 {
		text += "\n"
	}
	return text + strings.Repeat("#", envSize-len(text))
}

// debian is the menu of grub-mkconfig on Debian 12 for two kernels, with
// another default; test/boot has its generator.
func debian(t *testing.T, standard string) string {
	t.Helper()
	data, err := os.ReadFile("testdata/debian.cfg")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(string(data), `set default="0"`, `set default="`+standard+`"`, 1)
	if standard != "0" && text == string(data) {
		t.Fatal("no default in testdata/debian.cfg")
	}
	return text
}

const (
	uuid  = "0f4d9ab3-2c39-4a8c-a9f3-6c83a0b2d1e7"
	newer = "6.12.117+deb12-amd64"
	older = "6.1.0-56-amd64"
)

func TestDebian(t *testing.T) {
	const menu = "gnulinux-advanced-" + uuid
	for _, tt := range []struct{ standard, env, want, entry string }{
		{"0", "", newer, "gnulinux-simple-" + uuid},
		{"${saved_entry}", "", newer, "gnulinux-simple-" + uuid},
		{"${saved_entry}", "saved_entry=1>2", older, menu + ">gnulinux-" + older + "-advanced-" + uuid},
		{"1>3", "", older, menu + ">gnulinux-" + older + "-recovery-" + uuid},
		{"1", "", newer, menu + ">gnulinux-" + newer + "-advanced-" + uuid},
		{"1>99", "", newer, menu + ">gnulinux-" + newer + "-advanced-" + uuid},
		{"0x1>02", "", older, ""},
		{"99999999999999999999", "", newer, ""},
		{menu + ">gnulinux-" + older + "-advanced-" + uuid, "", older, ""},
		{"Advanced options for Debian GNU/Linux>Debian GNU/Linux, with Linux " + older, "", older, ""},
		{"Debian GNU/Linux, with Linux " + older, "", newer, "gnulinux-simple-" + uuid},
		{"no such entry>2", "", newer, "gnulinux-simple-" + uuid},
	} {
		d := newDisk(t)
		d.write("boot/grub/grub.cfg", debian(t, tt.standard))
		d.write("boot/grub/grubenv", block(tt.env))
		d.want(tt.want, tt.want, tt.entry)
	}
}

func TestOneShot(t *testing.T) {
	d := newDisk(t)
	d.write("boot/grub/grub.cfg", debian(t, "0"))
	d.write("boot/grub/grubenv", block("next_entry=1>2"))
	if c := d.want(older, newer, ""); !c.OneShot || c.Loader != GRUB {
		t.Errorf("%+v", c)
	}
	d.write("boot/grub/grubenv", "")
	d.want(newer, newer, "")
	d.write("boot/grub/grubenv", "next_entry=1\n")
	d.wantError("no GRUB environment block")
}

func TestFedora(t *testing.T) {
	const id = "0123456789abcdef0123456789abcdef-"
	d := newDisk(t)
	d.write("boot/grub2/grub.cfg", fedora)
	for _, r := range []string{"6.5.6-300.fc39.x86_64", "6.10.2-100.fc39.x86_64", "6.9.9-100.fc39.x86_64"} {
		d.write("boot/loader/entries/"+id+r+".conf", "title Fedora Linux ("+r+")\nversion "+r+"\nlinux /vmlinuz-"+r+"\n")
	}
	d.write("boot/loader/entries/"+id+"0-rescue.conf", "title Rescue\nversion 0-rescue\nlinux /vmlinuz-0-rescue-0123\n")
	d.want("6.10.2-100.fc39.x86_64", "6.10.2-100.fc39.x86_64", id+"6.10.2-100.fc39.x86_64")
	d.write("boot/grub2/grubenv", block("saved_entry="+id+"6.5.6-300.fc39.x86_64", "boot_success=1"))
	d.want("6.5.6-300.fc39.x86_64", "6.5.6-300.fc39.x86_64", "")
	d.write("boot/grub2/grubenv", block("saved_entry="+id+"6.5.6-300.fc39.x86_64", "boot_success=0", "boot_counter=0"))
	d.want("6.9.9-100.fc39.x86_64", "6.9.9-100.fc39.x86_64", "")
	d.write("boot/grub2/grubenv", block("saved_entry=uefi-firmware"))
	if c := d.want("", "", "uefi-firmware"); c.Why == "" {
		t.Errorf("%+v", c)
	}
}

// Words, conditions and files of the script language.
func TestScript(t *testing.T) {
	for name, script := range map[string]string{
		"quotes":        "set default='a '\"b\"\\ c\nmenuentry x {\n}\nmenuentry 'a b c' {\nlinux /vmlinuz-1.1\n}",
		"one line":      "menuentry x { true; }; menuentry \"y\" --id=z { linux /vmlinuz-1.1; }; default=z",
		"comments":      "# {\nset default=1 # 'it\nmenuentry x {\n}\nmenuentry y {\n# linux /vmlinuz-2\nlinux16 /vmlinuz-1.1\n}",
		"goes on":       "set \\\ndefault=1\nmenuentry x {\n}\nmenuentry y {\nlinuxefi \\\n /vmlinuz-1.1\n}",
		"nested if":     "if [ 1 = 2 ]; then if [ a ]; then set default=0; fi; else if ! [ a ]; then set default=0; elif test -z '' -a a != b; then set default=1; fi; fi\nmenuentry x { true; }\nmenuentry y { linux /vmlinuz-1.1; }",
		"function":      "function f {\n set default=0\n}\nset default=1\nfor i in a b; do\n set default=0\ndone\nmenuentry x { true; }\nmenuentry y { linux /vmlinuz-1.1; }",
		"in a menu":     "menuentry x {\nset default=3\nlinux /vmlinuz-1.1\nmenuentry z { linux /vmlinuz-3; }\n}\nsubmenu s {\nset default=1\nmenuentry y { linux /vmlinuz-2; }\n}",
		"greater":       "set default='a>>b>c'\nmenuentry x { true; }\nsubmenu 'a>b' { menuentry d { true; }\nmenuentry c { linux /vmlinuz-1.1; }; }",
		"unset":         "set default=1\nunset default\nmenuentry x { linux /vmlinuz-1.1; }\nmenuentry y { true; }",
		"empty word":    "set default=1\nmenuentry x { true; }\nmenuentry $nothing y { linux $nothing /vmlinuz-1.1; }",
		"sourced":       "set default=more\nmenuentry x { true; }\nif [ -f ${config_directory}/custom.cfg ]; then source ${config_directory}/custom.cfg; fi\nsource /outside.cfg",
		"-a before -o":  "if [ '' -a x -o y ]; then default=1; fi\nmenuentry x { true; }\nmenuentry y { linux /vmlinuz-1.1; }",
		"first only":    "menuentry x {\nif [ a ]; then\nlinux /vmlinuz-1.1\nelse\nlinux /vmlinuz-2.2\nfi\n}",
		"carriage":      "set default=1\r\nmenuentry x {\r\n}\r\nmenuentry y {\r\nlinux /vmlinuz-1.1\r\n}\r\n",
		"dollar at end": "set default=1$\nset default=1\nmenuentry x { true; }\nmenuentry y { linux /vmlinuz-1.1; }",
	} {
		d := newDisk(t)
		d.write("boot/grub/grub.cfg", script)
		d.write("boot/grub/custom.cfg", "menuentry more {\nlinux /vmlinuz-1.1\n}")
		if c, err := Next(d.Paths); err != nil || c.Release != "1.1" {
			t.Errorf("%s: %+v, %v", name, c, err)
		}
	}
}

// Damaged and hostile scripts end in an error.
func TestBadScript(t *testing.T) {
	for script, want := range map[string]string{
		"":                                   "no menu entries",
		"submenu x {\n}":                     "no menu entries",
		"menuentry 'x {\n}":                  "inside quotes",
		"set a=\"${b":                        "inside quotes",
		"menuentry x {\n":                    "has no end",
		"menuentry x\n":                      "without a block",
		"if [ a ]\n":                         "if without then",
		"\nif [ a ]; then\n":                 "line 3: if without fi",
		"for x in y; z":                      "without do",
		"while true; do\n":                   `no "done"`,
		"}":                                  "without its beginning",
		strings.Repeat("submenu a {\n", 100): "nested more than",
		strings.Repeat("menuentry a { ;}\n", maxEntries+1): "more than 10000 menu entries",
		"menuentry a {\n}\nsource $prefix/grub.cfg":        "files are sourced",
		"linux " + strings.Repeat("a ", maxWords+1):        "words",
		"a" + strings.Repeat("$b$c", maxWords):             "too many parts",
	} {
		d := newDisk(t)
		d.write("boot/grub/grub.cfg", script)
		d.wantError(want)
	}
	d := newDisk(t)
	if err := os.MkdirAll(d.GRUBDirs[0]+"/grub.cfg", 0o755); err != nil {
		t.Fatal(err)
	}
	d.wantError("is no file")
}

func FuzzScript(f *testing.F) {
	data, err := os.ReadFile("testdata/debian.cfg")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(data), "1>2")
	f.Add(fedora, "x")
	f.Add("if [ ! ! $a -o ]; then source $prefix/grub.cfg; fi", "0x")
	f.Fuzz(func(t *testing.T, script, standard string) {
		g := &grub{text: script, dir: t.TempDir()}
		if s, err := g.run(map[string]string{"saved_entry": standard}); err == nil {
			follow(s.top, standard)
			search(s.top, func(e *entry) bool { return e.image == standard })
		}
	})
}

func FuzzEnvironment(f *testing.F) {
	f.Add([]byte(block("saved_entry=a\\\\b", "next_entry=")))
	f.Fuzz(func(t *testing.T, data []byte) {
		env, err := parseEnv(data)
		if err == nil && len(env) > len(data) {
			t.Error("more variables than bytes")
		}
		if k, err := parseKept(string(data)); err == nil && len(data) > 0 {
			again, err := parseKept(k.String())
			if err != nil || again != k {
				t.Errorf("%+v became %+v, %v", k, again, err)
			}
		}
	})
}

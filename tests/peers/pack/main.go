// Prints what the libraries that pack is made of write for equal input: `order.toml`, `system.toml`, `run.toml` and `stack.toml`
// (compiler/buildpacks/src/distribution/files.rs), and the digests of layers (tests/cli/pack_modules.rs, runtime/exporters/src/go_tar).
// Names and order of fields are pack's. To run it: `cd tests/peers/pack && go run .`
package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"fmt"
	"github.com/BurntSushi/toml"
	"time"
)

type ModuleInfo struct {
	ID      string `toml:"id,omitempty"`
	Name    string `toml:"name,omitempty"`
	Version string `toml:"version,omitempty"`
}
type ModuleRef struct {
	ModuleInfo
	Optional bool `toml:"optional,omitempty"`
}
type OrderEntry struct {
	Group []ModuleRef `toml:"group"`
}
type Order []OrderEntry
type orderTOML struct {
	Order    Order `toml:"order,omitempty"`
	OrderExt Order `toml:"order-extensions,omitempty"`
}
type SB struct {
	Buildpacks []ModuleRef `toml:"buildpacks,omitempty"`
}
type System struct {
	Pre  SB `toml:"pre,omitempty"`
	Post SB `toml:"post,omitempty"`
}
type systemTOML struct {
	System System `toml:"system"`
}
type RI struct {
	Image   string   `toml:"image"`
	Mirrors []string `toml:"mirrors"`
}
type RunImages struct {
	Images []RI `toml:"images"`
}
type Stack struct {
	RunImage RI `toml:"run-image"`
}

func enc(v any) string {
	var b bytes.Buffer
	if err := toml.NewEncoder(&b).Encode(v); err != nil {
		panic(err)
	}
	return b.String()
}
func ref(id, v string, o bool) ModuleRef { return ModuleRef{ModuleInfo{ID: id, Version: v}, o} }

var ts = time.Unix(315532801, 0)

func layer(name string, hs []tar.Header, bodies []string) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for i := range hs {
		h := hs[i]
		h.ModTime = ts
		h.Size = int64(len(bodies[i]))
		if err := w.WriteHeader(&h); err != nil {
			panic(err)
		}
		w.Write([]byte(bodies[i]))
	}
	w.Close()
	fmt.Printf("%s sha256:%x\n", name, sha256.Sum256(b.Bytes()))
}
func file(name, text string) {
	layer(name, []tar.Header{{Typeflag: tar.TypeReg, Name: name, Mode: 0644}}, []string{text})
}
func main() {
	fmt.Printf("%q\n", enc(orderTOML{Order: Order{{Group: []ModuleRef{ref("a/b", "1", false), ref("c", "1", true)}}, {Group: []ModuleRef{ref("d", "1", false)}}}}))
	fmt.Printf("%q\n", enc(orderTOML{Order: Order{{Group: []ModuleRef{ref("a", "1", false)}}}, OrderExt: Order{{Group: []ModuleRef{ref("e", "1", false)}}}}))
	fmt.Printf("%q\n", enc(systemTOML{System{Post: SB{[]ModuleRef{ref("z", "1", false)}}}}))
	fmt.Printf("%q\n", enc(systemTOML{System{Pre: SB{[]ModuleRef{ref("p", "1", false)}}, Post: SB{[]ModuleRef{ref("z", "1", false)}}}}))
	fmt.Printf("%q\n", enc(RunImages{[]RI{{"a\"b", []string{"m", "n"}}, {"c", nil}}}))
	fmt.Printf("%q\n", enc(Stack{RI{"r", []string{}}}))
	D := func(n string) tar.Header { return tar.Header{Typeflag: tar.TypeDir, Name: n, Mode: 0755} }
	F := func(n string, m int64) tar.Header { return tar.Header{Typeflag: tar.TypeReg, Name: n, Mode: m} }
	p := "/cnb/buildpacks/x_one"
	layer("module x/one@1", []tar.Header{D(p), D(p + "/1"), D(p + "/1/bin"), F(p+"/1/bin/build", 0755), F(p+"/1/bin/detect", 0755), F(p+"/1/buildpack.toml", 0644), {Typeflag: tar.TypeSymlink, Name: p + "/1/link", Linkname: "bin/build", Mode: 0755}, F(p+"/1/note", 0644)},
		[]string{"", "", "", "#!/bin/sh\n", "#!/bin/sh\nexit 0\n", "api = \"0.10\"\n[buildpack]\nid = \"x/one\"\nversion = \"1\"\n", "", "hello\n"})
	own := func(n string) tar.Header { h := D(n); h.Uid = 1000; h.Gid = 1001; return h }
	hs := []tar.Header{own("/workspace"), own("/layers"), D("/cnb"), D("/cnb/buildpacks"), D("/cnb/extensions"), D("/platform"), D("/platform/env"), D("/cnb/build-config"), D("/cnb/build-config/env")}
	layer("dirs", hs, make([]string, len(hs)))
	file("/cnb/order.toml", enc(orderTOML{Order: Order{{Group: []ModuleRef{ref("x/one", "1", false)}}}}))
	file("/cnb/stack.toml", enc(Stack{RI{"test/run:1", nil}}))
	file("/cnb/run.toml", enc(RunImages{[]RI{{"test/run:1", nil}}}))
	layer("env", nil, nil)
}

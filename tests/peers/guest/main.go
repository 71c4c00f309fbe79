// Guest is a frontend by BuildKit's own client, for tests: it does what the build argument `act` says, and returns a tree in which the
// file `report` says what came of it.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/frontend/gateway/grpcclient"
	gatewaypb "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/appcontext"
	"github.com/tonistiigi/fsutil/types"
)

func main() {
	if err := grpcclient.RunFromEnvironment(appcontext.Context(), build); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func build(ctx context.Context, c client.Client) (*client.Result, error) {
	opts := c.BuildOpts().Opts
	act := opts["build-arg:act"]
	switch act {
	case "files":
		return reported(ctx, c, files)
	case "containers":
		return reported(ctx, c, containers)
	case "lasting":
		return reported(ctx, c, lasting)
	case "dockerfile", "handed", "itself", "question":
		return nested(ctx, c, opts, act)
	}
	return nil, fmt.Errorf("no such act: %q", act)
}

func reported(ctx context.Context, c client.Client, act func(context.Context, client.Client, io.Writer) error) (*client.Result, error) {
	var report bytes.Buffer
	if err := act(ctx, c, &report); err != nil {
		return nil, err
	}
	return solved(ctx, c, llb.Scratch().File(llb.Mkfile("/report", 0o644, report.Bytes())))
}

func solved(ctx context.Context, c client.Client, state llb.State) (*client.Result, error) {
	def, err := state.Marshal(ctx)
	if err != nil {
		return nil, err
	}
	return c.Solve(ctx, client.SolveRequest{Definition: def.ToPB(), Evaluate: true})
}

func tree(ctx context.Context, c client.Client, state llb.State) (client.Reference, error) {
	res, err := solved(ctx, c, state)
	if err != nil {
		return nil, err
	}
	return res.SingleRef()
}

func tell(w io.Writer, what string, stat *types.Stat) {
	fmt.Fprintf(w, "%s: %s %o %d:%d %d %d %q\n", what, stat.Path, stat.Mode, stat.Uid, stat.Gid, stat.Size, stat.ModTime, stat.Linkname)
}

// files looks at things of a tree, and of the context.
func files(ctx context.Context, c client.Client, w io.Writer) error {
	when := llb.WithCreatedTime(time.Unix(1000, 5))
	owner := llb.WithUIDGID(7, 8)
	state := llb.Scratch().
		File(llb.Mkdir("/folder", 0o1750, when, owner)).
		File(llb.Mkfile("/folder/file", 0o751, []byte("seven b"), when, owner)).
		File(llb.Mkfile("/folder/other", 0o600, nil, when)).
		File(llb.Symlink("file", "/folder/link", llb.WithCreatedTime(time.Unix(1000, 5))))
	ref, err := tree(ctx, c, state)
	if err != nil {
		return err
	}
	for _, path := range []string{"/folder", "folder/file", "/folder/link"} {
		stat, err := ref.StatFile(ctx, client.StatRequest{Path: path})
		if err != nil {
			return err
		}
		if stat.IsDir() {
			stat.ModTime = 0
		}
		tell(w, path, stat)
	}
	for _, pattern := range []string{"", "o*", "link"} {
		list, err := ref.ReadDir(ctx, client.ReadDirRequest{Path: "/folder", IncludePattern: pattern})
		if err != nil {
			return err
		}
		for _, stat := range list {
			tell(w, "in "+pattern, stat)
		}
	}
	_, err = ref.StatFile(ctx, client.StatRequest{Path: "/nowhere"})
	fmt.Fprintln(w, "missing:", err != nil && strings.Contains(err.Error(), "no such file or directory"))
	local, err := tree(ctx, c, llb.Local("context", llb.FollowPaths([]string{"a.txt"})))
	if err != nil {
		return err
	}
	stat, err := local.StatFile(ctx, client.StatRequest{Path: "a.txt"})
	if err != nil {
		return err
	}
	stat.ModTime = 0
	tell(w, "context", stat)
	return nil
}

type ended struct {
	out, err bytes.Buffer
	code     string
}

func exit(err error) string {
	var code *gatewaypb.ExitError
	switch {
	case err == nil:
		return "0"
	case errors.As(err, &code):
		return fmt.Sprint(code.ExitCode)
	}
	return err.Error()
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }

func container(ctx context.Context, c client.Client, more ...client.Mount) (client.Container, error) {
	base, err := tree(ctx, c, llb.Image("base"))
	if err != nil {
		return nil, err
	}
	mounts := append([]client.Mount{{Dest: "/", Ref: base, MountType: pb.MountType_BIND}}, more...)
	return c.NewContainer(ctx, client.NewContainerRequest{
		Mounts: mounts, NetMode: pb.NetMode_NONE, Hostname: "guest",
		ExtraHosts: []*pb.HostIP{{Host: "there", IP: "10.1.2.3"}},
	})
}

func run(ctx context.Context, ctr client.Container, stdin, script string) (*ended, error) {
	var got ended
	proc, err := ctr.Start(ctx, client.StartRequest{
		Args: []string{"/bin/sh", "-c", script}, Env: []string{"PATH=/bin", "WORD=said"}, Cwd: "/tmp", User: "0",
		Stdin: io.NopCloser(strings.NewReader(stdin)), Stdout: nopCloser{&got.out}, Stderr: nopCloser{&got.err},
	})
	if err != nil {
		return nil, err
	}
	got.code = exit(proc.Wait())
	return &got, nil
}

// containers runs things in containers.
func containers(ctx context.Context, c client.Client, w io.Writer) error {
	extra, err := tree(ctx, c, llb.Scratch().File(llb.Mkdir("/in", 0o755)).File(llb.Mkfile("/in/x", 0o644, []byte("x\n"))))
	if err != nil {
		return err
	}
	ctr, err := container(ctx, c,
		client.Mount{Dest: "/extra", Ref: extra, Selector: "/in", Readonly: true, MountType: pb.MountType_BIND},
		client.Mount{Dest: "/tmp", MountType: pb.MountType_TMPFS},
		client.Mount{Dest: "/key", MountType: pb.MountType_SECRET, SecretOpt: &pb.SecretOpt{ID: "key", Mode: 0o400}},
	)
	if err != nil {
		return err
	}
	got, err := run(ctx, ctr, "typed\n", "read line; echo $line $WORD; cat /extra/x /key; pwd; cat /etc/hosts | while read ip name rest; do test $name = there && echo $ip; done; echo wrong >&2; "+
		"touch /extra/y || echo kept; echo new > /new; cat /new; exit 3")
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "out: %q\nerr: %q\ncode: %s\n", got.out.String(), got.err.String(), got.code)
	if err := ctr.Release(ctx); err != nil {
		return err
	}
	// What it wrote is forgotten.
	ctr, err = container(ctx, c)
	if err != nil {
		return err
	}
	got, err = run(ctx, ctr, "", "test -e /new; echo $?; n=0; while test $n -lt 3000; do echo 0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789; n=$((n+1)); done")
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "new: %q %d %s\n", got.out.String()[:2], got.out.Len(), got.code)
	// One process in a container.
	got, err = run(ctx, ctr, "", "true")
	if err != nil {
		return err
	}
	fmt.Fprintln(w, "second:", got.code)
	if err := ctr.Release(ctx); err != nil {
		return err
	}
	fmt.Fprintln(w, "again:", ctr.Release(ctx) == nil)
	if err := signals(ctx, c, w); err != nil {
		return err
	}
	return terminal(ctx, c, w)
}

func signals(ctx context.Context, c client.Client, w io.Writer) error {
	for _, signal := range []syscall.Signal{syscall.SIGUSR1, syscall.SIGKILL} {
		ctr, err := container(ctx, c)
		if err != nil {
			return err
		}
		out, into := io.Pipe()
		proc, err := ctr.Start(ctx, client.StartRequest{
			Args: []string{"/bin/sh", "-c", "trap 'exit 5' USR1; echo ready; while :; do sleep 0.05; done"}, Env: []string{"PATH=/bin"},
			Stdout: into,
		})
		if err != nil {
			return err
		}
		if _, err := io.ReadFull(out, make([]byte, 6)); err != nil {
			return err
		}
		go io.Copy(io.Discard, out)
		if err := proc.Signal(ctx, signal); err != nil {
			return err
		}
		fmt.Fprintf(w, "%s: %s\n", signal, exit(proc.Wait()))
		if err := ctr.Release(ctx); err != nil {
			return err
		}
	}
	return nil
}

func terminal(ctx context.Context, c client.Client, w io.Writer) error {
	ctr, err := container(ctx, c)
	if err != nil {
		return err
	}
	keys, typing := io.Pipe()
	out, into := io.Pipe()
	proc, err := ctr.Start(ctx, client.StartRequest{
		Args: []string{"/bin/sh", "-c", "test -t 0 && test -t 1 && echo ready; read line; /bin/busybox stty size; echo got $line"}, Env: []string{"PATH=/bin"},
		Tty: true, Stdin: keys, Stdout: into,
	})
	if err != nil {
		return err
	}
	if _, err := io.ReadFull(out, make([]byte, 7)); err != nil {
		return err
	}
	if err := proc.Resize(ctx, client.WinSize{Rows: 33, Cols: 99}); err != nil {
		return err
	}
	if _, err := typing.Write([]byte("keys\r")); err != nil {
		return err
	}
	said := make(chan string)
	go func() {
		all, _ := io.ReadAll(out)
		said <- string(all)
	}()
	code := exit(proc.Wait())
	into.Close()
	fmt.Fprintf(w, "terminal: %q %s\n", <-said, code)
	return ctr.Release(ctx)
}

// lasting leaves a container that does not end.
func lasting(ctx context.Context, c client.Client, w io.Writer) error {
	ctr, err := container(ctx, c)
	if err != nil {
		return err
	}
	out, into := io.Pipe()
	if _, err := ctr.Start(ctx, client.StartRequest{
		Args: []string{"/bin/sh", "-c", "echo ready; sleep 98765"}, Env: []string{"PATH=/bin"}, Stdout: into,
	}); err != nil {
		return err
	}
	_, err = io.ReadFull(out, make([]byte, 6))
	fmt.Fprintln(w, "left")
	return err
}

// nested has another frontend build.
func nested(ctx context.Context, c client.Client, opts map[string]string, act string) (*client.Result, error) {
	req := client.SolveRequest{Frontend: "dockerfile.v0", FrontendOpt: map[string]string{}, Evaluate: true}
	for name, value := range opts {
		req.FrontendOpt[name] = value
	}
	switch act {
	case "handed":
		// A Dockerfile that nobody has on a disk, and a base that is a tree.
		file := opts["build-arg:file"]
		def, err := llb.Scratch().File(llb.Mkfile("/Dockerfile", 0o644, []byte(file))).Marshal(ctx)
		if err != nil {
			return nil, err
		}
		base, err := llb.Scratch().File(llb.Mkfile("/of-base", 0o644, []byte("base\n"))).Marshal(ctx)
		if err != nil {
			return nil, err
		}
		config, err := json.Marshal(map[string][]byte{"containerimage.config": []byte(`{"os":"linux","architecture":"amd64","config":{"Env":["FROM_BASE=yes"]},"rootfs":{"type":"layers","diff_ids":[]}}`)})
		if err != nil {
			return nil, err
		}
		req.FrontendInputs = map[string]*pb.Definition{"dockerfile": def.ToPB(), "ground": base.ToPB()}
		req.FrontendOpt["context:ground"] = "input:ground"
		req.FrontendOpt["input-metadata:ground"] = string(config)
	case "itself":
		// This program again, which then asks for the other.
		req.Frontend = "gateway.v0"
		req.FrontendOpt["source"] = opts["source"]
		req.FrontendOpt["build-arg:act"] = "dockerfile"
	case "question":
		req.FrontendOpt["requestid"] = "frontend.targets"
		req.Evaluate = false
		req.FrontendOpt["build-arg:act"] = "dockerfile"
		res, err := c.Solve(ctx, req)
		if err != nil {
			return nil, err
		}
		report := res.Metadata["result.json"]
		return solved(ctx, c, llb.Scratch().File(llb.Mkfile("/report", 0o644, report)))
	}
	return c.Solve(ctx, req)
}

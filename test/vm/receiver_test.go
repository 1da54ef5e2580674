package vm

import (
	"bytes"
	"encoding/base64"
	"maps"
	"strings"
	"testing"
)

func TestReceiver(t *testing.T) {
	data := base64.StdEncoding.EncodeToString([]byte("profile"))
	for name, tc := range map[string]struct {
		lines []string
		want  []Result
		live  string
		ended bool
	}{
		"two steps": {
			lines: []string{
				"firmware says hello", MarkReady, MarkStep + "one", "out", MarkExit + "0", "between",
				MarkStep + "two", MarkExit + "3", MarkEnd,
			},
			want:  []Result{{Step: "one", Output: []byte("out\n")}, {Step: "two", Code: 3}},
			live:  "out\n",
			ended: true,
		},
		"carriage returns": {
			lines: []string{MarkStep + "one\r", "out\r", MarkExit + "0\r", MarkEnd + "\r"},
			want:  []Result{{Step: "one", Output: []byte("out\n")}},
			live:  "out\n",
			ended: true,
		},
		"mark after an open line": {
			lines: []string{MarkStep + "one", "no newline" + MarkExit + "0", MarkEnd},
			want:  []Result{{Step: "one", Output: []byte("no newline\n")}},
			live:  "no newline\n",
			ended: true,
		},
		"files": {
			lines: []string{
				MarkStep + "one", MarkFile + "/tmp/a 7", MarkData + data, MarkFile + "/tmp/b 14", MarkData + data, MarkData + data,
				MarkFile + "/tmp/empty 0", MarkExit + "0", MarkEnd,
			},
			want:  []Result{{Step: "one", Files: map[string][]byte{"/tmp/a": []byte("profile"), "/tmp/b": []byte("profileprofile"), "/tmp/empty": nil}}},
			ended: true,
		},
		"damaged files": {
			lines: []string{
				MarkStep + "one", MarkData + data, MarkFile + "/tmp/cut 8", MarkData + data, MarkFile + "/tmp/bad 7", MarkData + data[1:],
				MarkFile + "nonsense", MarkData + data, MarkExit + "0",
			},
			want: []Result{{Step: "one"}},
		},
		"the guest stops within a step": {
			lines: []string{MarkStep + "one", MarkExit + "0", MarkStep + "two", "last words"},
			want:  []Result{{Step: "one"}},
			live:  "last words\n",
		},
		"an exit code that is none": {
			lines: []string{MarkStep + "one", MarkExit + "x"},
			want:  []Result{{Step: "one", Code: -1}},
		},
		"an exit without a step": {lines: []string{MarkExit + "0", MarkFile + "a 1"}},
	} {
		t.Run(name, func(t *testing.T) {
			var live bytes.Buffer
			r := &receiver{live: &live}
			if err := r.read(strings.NewReader(strings.Join(tc.lines, "\n"))); err != nil {
				t.Fatal(err)
			}
			if len(r.results) != len(tc.want) || r.ended != tc.ended || live.String() != tc.live {
				t.Fatalf("got %d results, ended %t, live %q", len(r.results), r.ended, live.String())
			}
			for i, want := range tc.want {
				got := r.results[i]
				if got.Step != want.Step || got.Code != want.Code || !bytes.Equal(got.Output, want.Output) ||
					!maps.EqualFunc(got.Files, want.Files, bytes.Equal) {
					t.Errorf("got  %+v\nwant %+v", got, want)
				}
			}
		})
	}
}

func FuzzReceiver(f *testing.F) {
	f.Add([]byte(MarkStep + "one\nout\n" + MarkFile + "/a 1\n" + MarkData + "YQ==\n" + MarkExit + "0\n" + MarkEnd + "\n"))
	f.Add([]byte("x" + MarkFile + MarkData + MarkExit))
	f.Add([]byte(MarkStep + "a\n" + MarkExit + "0\n" + MarkData + "YQ==\n" + MarkFile + "b 0\n" + MarkExit + "1\n"))
	f.Fuzz(func(t *testing.T, stream []byte) {
		r := &receiver{}
		if err := r.read(bytes.NewReader(stream)); err != nil {
			t.Fatal(err)
		}
		if steps := bytes.Count(stream, []byte(MarkStep)); len(r.results) > steps {
			t.Errorf("%d results of %d steps", len(r.results), steps)
		}
	})
}

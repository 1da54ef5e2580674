// Service is the program that the demo watches: a small HTTPS service with a careless endpoint, as
// one finds it in production. It knows nothing of Plumbline and must not link any of its packages.
//
//	service -listen 127.0.0.1:8443 -dir /tmp/demo
package main

import (
	"crypto/tls"
	"crypto/x509"
	"flag"
	"fmt"
	"log"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:0", "address to listen on")
	dir := flag.String("dir", ".", "directory of server.pem, server.key, ca.pem and, if it is to answer with one, secret; uploads go there too")
	flag.Parse()
	if err := serve(*listen, *dir); err != nil {
		log.Fatal(err)
	}
}

func serve(listen, dir string) error {
	ca, err := os.ReadFile(filepath.Join(dir, "ca.pem"))
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	server := &http.Server{
		Addr:    listen,
		Handler: routes(dir),
		TLSConfig: &tls.Config{
			ClientCAs:  roots,
			ClientAuth: tls.VerifyClientCertIfGiven,
			NextProtos: []string{"h2", "http/1.1"},
		},
	}
	return server.ListenAndServeTLS(filepath.Join(dir, "server.pem"), filepath.Join(dir, "server.key"))
}

func routes(dir string) http.Handler {
	balance := "balance: 42"
	if secret, err := os.ReadFile(filepath.Join(dir, "secret")); err == nil {
		balance += " " + string(secret)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /balance", func(w http.ResponseWriter, r *http.Request) {
		// Garbage, as any service makes it.
		for range 64 {
			_ = make([]byte, 1<<20)
		}
		fmt.Fprintln(w, balance)
	})
	mux.HandleFunc("POST /collect", func(w http.ResponseWriter, r *http.Request) { runtime.GC() })
	// The service's normal work starts a program.
	mux.HandleFunc("GET /report", func(w http.ResponseWriter, r *http.Request) { run(w, "/bin/uname", "-s") })
	// The hole: text from the caller reaches a shell.
	mux.HandleFunc("GET /search", func(w http.ResponseWriter, r *http.Request) {
		run(w, "/bin/sh", "-c", "echo found "+r.URL.Query().Get("q"))
	})
	// Another: a file from the caller is stored and started.
	mux.HandleFunc("GET /plugin", func(w http.ResponseWriter, r *http.Request) {
		run(w, filepath.Join(dir, "plugin"))
	})
	return mux
}

func run(w http.ResponseWriter, name string, args ...string) {
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	_, _ = w.Write(out)
}

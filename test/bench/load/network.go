package load

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"
)

// Fixed ports: a baseline holds them.
const (
	tcpPort  = 7301
	httpPort = 7302
)

func listen(port int) (int, *unix.SockaddrInet4, error) {
	address := &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, nil, fmt.Errorf("make socket: %w", err)
	}
	if err := errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1), unix.Bind(fd, address), unix.Listen(fd, 16),
	); err != nil {
		return 0, nil, fmt.Errorf("listen: %w", errors.Join(err, unix.Close(fd)))
	}
	return fd, address, nil
}

func connect(address unix.Sockaddr) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	if err := unix.Connect(fd, address); err != nil {
		return 0, errors.Join(err, unix.Close(fd))
	}
	return fd, nil
}

func openTCP(string) (Load, error) {
	listener, address, err := listen(tcpPort)
	if err != nil {
		return Load{}, err
	}
	once := func() error {
		client, err := connect(address)
		if err != nil {
			return err
		}
		server, _, err := unix.Accept4(listener, unix.SOCK_CLOEXEC)
		if err != nil {
			return err
		}
		// A reset leaves nothing behind that waits for its time to be over.
		reset := unix.SetsockoptLinger(client, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
		return errors.Join(reset, unix.Close(client), unix.Close(server))
	}
	run := func(n int) error {
		for range n {
			if err := once(); err != nil {
				return err
			}
		}
		return nil
	}
	return Load{run, func() error { return unix.Close(listener) }}, nil
}

// serverArgument makes this program the HTTP server, on the listening socket that is its descriptor 3.
const serverArgument = "http-server"

// openHTTP starts a server in a process of its own and asks it over one connection.
func openHTTP(dir string) (Load, error) {
	listener, address, err := listen(httpPort)
	if err != nil {
		return Load{}, err
	}
	socket := os.NewFile(uintptr(listener), "listener")
	server := exec.Command("/proc/self/exe", serverArgument, dir)
	server.ExtraFiles, server.Stderr = []*os.File{socket}, os.Stderr
	if err := errors.Join(server.Start(), socket.Close()); err != nil {
		return Load{}, fmt.Errorf("start server: %w", err)
	}
	conn, err := connect(address)
	if err != nil {
		return Load{}, fmt.Errorf("connect to server: %w", err)
	}
	requests := make([][]byte, files)
	for i := range requests {
		requests[i] = []byte("GET " + strings.TrimPrefix(fileName(dir, i), dir) + " HTTP/1.1\r\nHost: bench\r\n\r\n")
	}
	answer := make([]byte, 64<<10)
	run := func(n int) error {
		for i := range n {
			if err := ask(conn, requests[i%files], answer); err != nil {
				return err
			}
		}
		return nil
	}
	return Load{run, func() error { return errors.Join(unix.Close(conn), server.Wait()) }}, nil
}

const httpHead = "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: 4096\r\n\r\n"

func ask(conn int, request, answer []byte) error {
	if err := rawWrite(conn, request); err != nil {
		return err
	}
	for got := 0; got < len(httpHead)+fileBytes; {
		n, err := RawRead(conn, answer[got:])
		if err != nil {
			return err
		}
		if n == 0 {
			return fmt.Errorf("ask server: it closed the connection after %d bytes", got)
		}
		got += n
	}
	return nil
}

// Serve is the server: true if the arguments are for it. It ends when its client does.
func Serve(args []string) (bool, error) {
	if len(args) != 2 || args[0] != serverArgument {
		return false, nil
	}
	conn, _, err := unix.Accept4(3, unix.SOCK_CLOEXEC)
	if err != nil {
		return true, fmt.Errorf("accept: %w", err)
	}
	buffer := make([]byte, 4096)
	for {
		n, err := RawRead(conn, buffer)
		if n == 0 || err != nil {
			return true, err
		}
		_, rest, _ := strings.Cut(string(buffer[:n]), " ")
		path, _, _ := strings.Cut(rest, " ")
		if err := send(conn, args[1]+path); err != nil {
			return true, fmt.Errorf("serve %s: %w", path, err)
		}
	}
}

// send answers as servers of static files do.
func send(conn int, name string) error {
	file, err := unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	var info unix.Stat_t
	if err := unix.Fstat(file, &info); err != nil {
		return errors.Join(err, unix.Close(file))
	}
	if err := unix.Send(conn, []byte(httpHead), unix.MSG_MORE); err != nil {
		return errors.Join(err, unix.Close(file))
	}
	_, err = unix.Sendfile(conn, file, nil, int(info.Size))
	return errors.Join(err, unix.Close(file))
}
